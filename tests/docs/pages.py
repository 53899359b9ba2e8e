"""Every code block of the pages, and the commands within their sentences."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
]

INDENTED = "indented"
_PROGRAMS = ("python", "accelerate", "torchrun", "pytest", "sift-trainer", "make")
_OF_THE_PROJECT = ("benchmarks/", "scripts/", "tests/", "configs/")


@dataclass(frozen=True)
class Block:
    """One block of code.

    Attributes:
        page: path from the root of the repository.
        line: where its text begins, from 1.
        language: of the fence, "" for a fence without one, `INDENTED` for a block without a fence.
        text: without fence and indentation.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def parse(text: str) -> list[Token]:
    """As CommonMark reads it, with tables."""
    return MarkdownIt("commonmark").enable("table").parse(text)


def blocks(text: str, page: str) -> Iterator[Block]:
    """The blocks of a page, in lists and quotations too."""
    for token in parse(text):
        if token.type == "fence":
            assert token.map is not None
            yield Block(page, token.map[0] + 2, token.info.strip(), token.content)
        elif token.type == "code_block":
            assert token.map is not None
            yield Block(page, token.map[0] + 1, INDENTED, token.content)


def inline_commands(text: str, page: str) -> Iterator[Block]:
    """Commands in sentences and tables that name a file of the project, or a target of make."""
    for token in parse(text):
        for child in token.children or ():
            program, _, rest = child.content.partition(" ")
            if child.type != "code_inline" or not rest:
                continue
            program = program.removeprefix(".venv/bin/")
            own = program == "make" or any(name in rest for name in _OF_THE_PROJECT)
            if program in _PROGRAMS and own and "SCRIPT" not in rest:
                assert token.map is not None
                yield Block(page, token.map[0] + 1, INDENTED, child.content + "\n")


def of_all_pages(kind: object = blocks) -> list[Block]:
    """Of README, CONTRIBUTING and docs, in their order."""
    assert callable(kind)
    return [
        block
        for path in PAGES
        for block in kind(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    ]
