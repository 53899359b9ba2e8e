"""The page: one file without anything from elsewhere, and what a real browser makes of it."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sift_trainer.reporting import build_report
from sift_trainer.reporting.page import Heading, Items, Table, Text, to_html, to_markdown
from tests import browser
from tests.reporting.made_up import PLAIN, resnet, seeds_of_table_1, write_run


class Parts(HTMLParser):
    """Tags, what they point at, and whether each was closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "srcset", "data")]
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of both experiments with long names, and one that is cut."""
    folder = tmp_path_factory.mktemp("runs")
    seeds_of_table_1(folder / "bert")
    for name in ("a_very_long_name_of_a_run_without_any_space_in_it_at_all", "entropy"):
        write_run(folder / "bert" / name, [0.1, 0.2, 0.3, 0.5], sift={"sift_criterion": name[:7]})
    for rate in (1e-2, 1e-3):
        cell = folder / f"learning_rate_{rate}"
        for name, sift in (("baseline", PLAIN), ("early_exit", {})):
            write_run(cell / name, [0.5, 0.6], sift=sift, settings=resnet(), learning_rate=rate)
    cut = write_run(folder / "cut_<script>", [0.1]) / "log.jsonl"
    cut.write_bytes(cut.read_bytes()[:-9])
    build_report([folder]).write(folder / "report")
    return folder / "report"


def test_nothing_is_loaded_and_nothing_runs(report: Path) -> None:
    text = (report / "report.html").read_text()
    parts = Parts(text)
    assert not parts.open
    assert not {"script", "link", "iframe", "object"} & set(parts.tags)
    assert parts.sources
    assert all(source.startswith("data:image/svg+xml;base64,") for source in parts.sources)
    assert "@import" not in text
    assert "url(" not in text
    assert '<meta name="viewport" content="width=device-width' in text
    assert set(re.findall(r'https?://[^"<\s]+', text)) == {
        "https://proceedings.mlr.press/v235/das24b.html"
    }


def test_figures_are_files_too_and_the_markdown_names_them(report: Path) -> None:
    named = re.findall(r"\]\((.*?\.svg)\)", (report / "report.md").read_text())
    assert len(named) == len(set(named)) == 6  # two for each of three comparisons
    assert sorted(named) == sorted(path.name for path in report.glob("*.svg"))
    assert sorted(path.name for path in report.iterdir()) == sorted(
        [*named, "report.md", "report.html"]
    )


def test_the_same_runs_give_the_same_files(report: Path, tmp_path: Path) -> None:
    build_report([report.parent]).write(tmp_path)
    for file in report.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_half_written_runs_are_listed(report: Path) -> None:
    for name in ("report.md", "report.html"):
        text = (report / name).read_text()
        assert "Not in the tables" in text
        assert "cut_&lt;script>" in text.replace("&gt;", ">")


def test_names_cannot_write_markup() -> None:
    evil = "<img src=x onerror=alert(1)>|a](b)"
    blocks = [Heading(1, evil), Text(evil), Items([evil]), Table([["a"], [evil]], note=evil)]
    assert "<img" not in to_html(blocks, evil)
    text = to_markdown(blocks)
    assert "<img" not in text
    assert r"(1)>\|a](b) |" in text  # one cell, as its head has


def browse(page: Path, folder: Path, size: tuple[int, int]) -> dict[str, object]:
    """What Chromium lays out in a window of that size, of a frame: it has no smallest width."""
    script = """
      const frame = document.querySelector("iframe"), page = frame.contentDocument;
      const seen = {
        window: frame.contentWindow.innerWidth,
        width: page.documentElement.scrollWidth,
        images: [...page.images].map(each => each.complete && each.naturalWidth > 0),
        right: Math.max(...[...page.querySelectorAll("p, li, h1, h2, h3, img, .scroll")]
          .map(each => each.getBoundingClientRect().right)),
        scrolling: [...page.querySelectorAll(".scroll")]
          .filter(each => each.scrollWidth > each.clientWidth).length,
        smallest: Math.min(...[...page.querySelectorAll("p, li, td, th")]
          .map(each => parseFloat(page.defaultView.getComputedStyle(each).fontSize))),
        titles: [...page.querySelectorAll("h3")].map(each => each.textContent),
      };
      document.body.setAttribute("data-seen", JSON.stringify(seen));
    """
    width, height = size
    frame = folder / "frame.html"
    frame.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><body><iframe width="{width}" height="{height}" '
        f'style="border:0" srcdoc="{html.escape(page.read_text())}"></iframe>'
        f"<script>onload = () => {{ {script} }}</script></body>"
    )
    done = browser.browse(frame.as_uri(), folder)
    found = re.search(r'<body data-seen="([^"]*)"', done.stdout)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    seen: dict[str, object] = json.loads(html.unescape(found[1]))
    return seen


@browser.needs_browser
@pytest.mark.parametrize(
    "size", [browser.PHONE, browser.SMALL, browser.DESK], ids=["phone", "small", "desk"]
)
def test_a_browser_shows_it_without_scrolling_sideways(
    report: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    seen = browse(report / "report.html", tmp_path, size)
    assert seen["window"] == size[0]
    assert seen["width"] == size[0]  # wide tables scroll in boxes of their own
    assert isinstance(seen["right"], (int, float))
    assert seen["right"] <= size[0]
    if size == browser.PHONE:
        assert isinstance(seen["scrolling"], int)
        assert seen["scrolling"] > 3
    assert seen["images"] == [True] * 6
    assert isinstance(seen["smallest"], (int, float))
    assert seen["smallest"] >= 12
    titles = seen["titles"]
    assert isinstance(titles, list)
    for title in ("Table 1:", "Table 3:", "Table 6:", "Figures 1 and 2"):
        assert any(each.startswith(title) for each in titles)
