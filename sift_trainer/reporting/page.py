"""A page of headings, sentences, lists, tables and figures, as Markdown and as one HTML file."""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sift_trainer.tables import markdown


@dataclass(frozen=True)
class Heading:
    """Of level 1 to 3."""

    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; a web address in it becomes a link."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list; `warning`: what the reader must not miss."""

    items: Sequence[str]
    warning: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells, the head first. A cell in ``**`` is bold."""

    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """An SVG.

    Attributes:
        name: of its file.
        caption: also what is read out in its place.
    """

    svg: str
    name: str
    caption: str


Block = Heading | Text | Items | Table | Figure


def to_markdown(blocks: Sequence[Block]) -> str:
    """Figures by the names of their files, which belong into the same folder."""
    return "\n".join(_markdown(block) for block in blocks)


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_plain(block.text)}\n"
    if isinstance(block, Text):
        return f"{_plain(block.text)}\n"
    if isinstance(block, Items):
        return "".join(f"- {_plain(item)}\n" for item in block.items)
    if isinstance(block, Figure):
        return f"![{_plain(block.caption)}]({block.name})\n\n{_plain(block.caption)}\n"
    table = markdown([[_plain(cell).replace("|", "\\|") for cell in row] for row in block.rows])
    return f"{table}\n{_plain(block.note)}\n" if block.note else table


def _plain(text: str) -> str:
    """Names of runs are folders' names, which may have anything in them."""
    line = " ".join(text.split())
    return line.replace("&", "&amp;").replace("<", "&lt;").replace("[", "\\[").replace("`", "\\`")


_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.3rem; line-height: 1.25; margin-top: 2.5rem; border-top: 1px solid #ccc;
  padding-top: 1rem; }
h3 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; border: 1px solid #ddd; border-radius: 4px; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .5rem; text-align: right; white-space: nowrap; overflow-wrap: normal;
  border-bottom: 1px solid #e5e5e5; background: #fff; }
thead th { background: #f3f3f3; vertical-align: bottom; white-space: normal; min-width: 4rem; }
th:first-child { position: sticky; left: 0; text-align: left; font-weight: 600; min-width: 6.5rem;
  max-width: 10rem; white-space: normal; overflow-wrap: anywhere; border-right: 1px solid #ddd; }
small { color: #444; }
.note, figcaption { color: #444; font-size: .875rem; margin: .4rem 0 1.4rem; }
.warning { background: #fff6e0; border-left: 4px solid #b26b00; padding: .6rem .6rem .6rem 1.6rem; }
@media (max-width: 30rem) { table { font-size: .8125rem; } }
figure { margin: 1rem 0; }
img { display: block; width: 100%; max-width: 40rem; height: auto; }
a { color: #00508a; }
"""


def to_html(blocks: Sequence[Block], title: str) -> str:
    """One file that needs no other: style and figures are in it, and there is no script."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Text):
        return f"<p>{_linked(block.text)}</p>"
    if isinstance(block, Items):
        items = "".join(f"<li>{_linked(item)}</li>\n" for item in block.items)
        kind = ' class="warning"' if block.warning else ""
        return f"<ul{kind}>\n{items}</ul>"
    if isinstance(block, Figure):
        data = base64.b64encode(block.svg.encode()).decode()
        caption = html.escape(block.caption)
        image = f'<img alt="{caption}" src="data:image/svg+xml;base64,{data}">'
        return f"<figure>\n{image}\n<figcaption>{caption}</figcaption>\n</figure>"
    return _html_table(block)


def _html_table(table: Table) -> str:
    head, *rows = table.rows
    heads = "".join(f'<th scope="col">{_cell(cell)}</th>' for cell in head)
    lines = "\n".join(
        f'<tr><th scope="row">{_cell(row[0])}</th>'
        + "".join(f"<td>{_cell(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    # The box scrolls, by keys too, and not the page.
    box = '<div class="scroll" tabindex="0" role="region" aria-label="table">'
    note = f'\n<p class="note">{_linked(table.note)}</p>' if table.note else ""
    return (
        f"{box}\n<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n"
        f"</table>\n</div>{note}"
    )


def _cell(text: str) -> str:
    if len(text) > 4 and text.startswith("**") and text.endswith("**"):
        return f"<strong>{_cell(text[2:-2])}</strong>"
    spread = re.fullmatch(r"(\S+) \((\S+ to \S+)\)", text)
    if spread:  # on two lines, as a phone is narrow
        return f"{html.escape(spread[1])}<br><small>{html.escape(spread[2])}</small>"
    return re.sub(r"([_/])(?=\w)", r"\1<wbr>", html.escape(text))  # where a name may be broken


def _linked(text: str) -> str:
    return re.sub(r"(https://[\w./-]*[\w/])", r'<a href="\1">\1</a>', html.escape(text))
