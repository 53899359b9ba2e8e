"""The code blocks of README, CONTRIBUTING and docs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND_STARTS = ("python ", "accelerate ", "torchrun ", "pytest ", "sift-trainer ", "make ")


@dataclass(frozen=True)
class Block:
    """One block of code.

    Attributes:
        page: path from the root of the repository.
        line: the line of the page that its text begins in, from 1.
        language: of the fence; "" for a fence without one and for indented blocks.
        text: without fence and indentation.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _blocks(path: Path) -> Iterator[Block]:
    page = str(path.relative_to(ROOT))
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
        start = token.map[0] + 1 if token.map else 0
        if token.type in ("fence", "code_block"):
            yield Block(page, start + (token.type == "fence"), token.info.strip(), token.content)
        for child in token.children or ():
            # Commands within sentences and tables.
            text = child.content.removeprefix(".venv/bin/")
            if child.type == "code_inline" and text.startswith(COMMAND_STARTS) and "/" in text:
                yield Block(page, start, "", text)


BLOCKS = [block for path in PAGES for block in _blocks(path)]
