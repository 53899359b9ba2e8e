"""The parts of a report, its Markdown, and the same as one HTML file."""

import base64
import html
import re
from collections.abc import Mapping, Sequence

from sift_trainer.probe.markdown import markdown

Table = Sequence[Mapping[str, str]]
"""Rows, each with its cells by the names of the columns."""


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


_STYLE = """
body { font: 1rem/1.5 sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem;
  overflow-wrap: anywhere; }
table { display: block; overflow-x: auto; border-collapse: collapse; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .5rem; white-space: nowrap; border-bottom: 1px solid #e5e5e5; }
th, tr > :first-child { white-space: normal; min-width: 5rem; }
blockquote { background: #fff6e0; border-left: 4px solid #b26b00; margin: 0; padding: .1rem .6rem; }
img { width: 100%; max-width: 40rem; }
"""


def to_html(text: str, title: str, pictures: Mapping[str, str]) -> str:
    """One file that needs no other: style and pictures are in it, and there is no script.

    Raises:
        ImportError: markdown-it-py is missing.
    """
    from markdown_it import MarkdownIt

    body: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    for name, svg in pictures.items():
        data = base64.b64encode(svg.encode()).decode()
        body = body.replace(f'src="{name}"', f'src="data:image/svg+xml;base64,{data}"')
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}</body>\n</html>\n"
    )
