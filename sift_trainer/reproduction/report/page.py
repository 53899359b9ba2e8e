"""The parts of a report, its Markdown, and the same as one HTML file."""

import base64
import html
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sift_trainer.probe.markdown import markdown

Table = Sequence[Mapping[str, str]]
"""Rows, each with its cells by the names of the columns."""


class Picture(NamedTuple):
    """An SVG, the name of its file, and its caption."""

    svg: str
    name: str
    caption: str


def plain(text: str) -> str:
    """Text for Markdown and HTML that means itself, whatever a folder's name has in it."""
    line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`\[|])", r"\\\1", line)


def heading(level: int, text: str) -> str:
    return f"{'#' * level} {plain(text)}\n"


def items(texts: Sequence[str]) -> str:
    return "".join(f"- {plain(text)}\n" for text in texts)


def table(rows: Table) -> str:
    """A table. Cells in ``**`` are bold."""
    cells = [list(rows[0]), *(list(row.values()) for row in rows)]
    return markdown([list(map(plain, row)) for row in cells])


def picture(figure: Picture) -> str:
    """The picture by the name of its file, which is in the same folder."""
    caption = plain(figure.caption)
    return f"![{caption}]({figure.name})\n\n{caption}\n"


_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.3rem; margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem; }
h3 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; border: 1px solid #ddd; border-radius: 4px; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .5rem; white-space: nowrap; overflow-wrap: normal;
  border-bottom: 1px solid #e5e5e5; background: #fff; }
thead th { background: #f3f3f3; vertical-align: bottom; white-space: normal; min-width: 4rem; }
tr > :first-child { position: sticky; left: 0; font-weight: 600; min-width: 6.5rem;
  max-width: 10rem; white-space: normal; overflow-wrap: anywhere; border-right: 1px solid #ddd; }
blockquote { background: #fff6e0; border-left: 4px solid #b26b00; margin: 0; padding: .1rem .6rem; }
img { display: block; width: 100%; max-width: 40rem; height: auto; }
a { color: #00508a; }
"""


def to_html(text: str, title: str, pictures: Sequence[Picture] = ()) -> str:
    """One file that needs no other: style and pictures are in it, and there is no script.

    Raises:
        ImportError: markdown-it-py is missing.
    """
    from markdown_it import MarkdownIt

    body: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    # Wide tables scroll in a box of their own, with keys too, so that the page does not.
    box = '<div class="scroll" tabindex="0" role="region" aria-label="table"><table>'
    body = body.replace("<table>", box).replace("</table>", "</table></div>")
    for figure in pictures:
        data = base64.b64encode(figure.svg.encode()).decode()
        body = body.replace(f'src="{figure.name}"', f'src="data:image/svg+xml;base64,{data}"')
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}</body>\n</html>\n"
    )
