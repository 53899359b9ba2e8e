"""The site: built strictly by a real process, and looked at with a real browser."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests import browser
from tests.docs.looking import CONTROL, Look, look
from tests.docs.pages import PAGES, ROOT, blocks

pytest.importorskip("mkdocs", reason="mkdocs is not installed (its theme needs Python 3.11)")
import yaml  # behind the skip, as all that follows reads the site

DOCUMENTED = ("sift_trainer", *(f"sift_trainer.{name}" for name in ("probe", "theory", "tasks")))
DOCUMENTED += ("sift_trainer.early_exit",)


def build(project: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs`, to another folder. Whoever asks for the network gets no answer."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(site)],
        cwd=project,
        env={**os.environ, **nowhere, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING -" not in done.stderr
    return folder


class Parts(HTMLParser):
    """Ids, how many blocks of code there are, and what the page loads by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.code = 0
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids.add(found.get("id", ""))
        self.code += tag == "pre"
        if tag != "a":
            names = ("src", "srcset", "href", "data", "action")
            self.loads += [found[name] for name in names if name in found]


def nav(entries: list[dict[str, object]]) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            if isinstance(value, list):
                yield from nav(value)
            else:
                yield str(value)


def in_nav() -> list[str]:
    # Its icons are names of Python objects to YAML; nothing here is built from them.
    text = (ROOT / "mkdocs.yml").read_text()
    return [*nav(yaml.safe_load(text)["nav"])]


def page(site: Path, name: str) -> str:
    return (site / name.replace(".md", ".html")).read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation() -> None:
    docs = {str(path.relative_to(ROOT / "docs")) for path in PAGES if "docs" in path.parts}
    assert set(in_nav()) == docs
    assert len(in_nav()) == len(docs)


def test_a_page_loads_nothing_from_other_hosts(site: Path) -> None:
    for name in in_nav():
        loads = Parts(page(site, name)).loads
        assert loads, name
        elsewhere = [each for each in loads if re.match(r"(https?:)?//", each)]
        assert elsewhere == [], name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text()), sheet


def test_blocks_are_blocks_on_the_site_too(site: Path) -> None:
    """Two readers of Markdown differ in lists above all."""
    for path in PAGES:
        name = str(path.relative_to(ROOT))
        if name.startswith("docs/") and not name.startswith("docs/api/"):
            text = path.read_text(encoding="utf-8")
            expected = len([*blocks(text, name)])
            assert Parts(page(site, name.removeprefix("docs/"))).code == expected, name


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    api = [name for name in in_nav() if name.startswith("api/")]
    ids = set().union(*(Parts(page(site, name)).ids for name in api))
    for module in DOCUMENTED:
        for name in importlib.import_module(module).__all__:
            # Of the package itself, some are shown with the module that they are in.
            full = {each for each in ids if each == f"{module}.{name}"}
            if module == "sift_trainer":
                full |= {each for each in ids if each.endswith(f".{name}")}
            assert full, f"{module}.{name} is on no page of docs/api"


def test_docstrings_leave_no_markup(site: Path) -> None:
    for name in in_nav():
        if name.startswith("api/"):
            text = page(site, name)
            text = text[text.index("<article") : text.index("</article>")]
            assert "::" not in re.sub(r"<[^>]*>", "", text), name
            assert "``" not in text, name
            assert not re.search(r"<p>\s*(Args|Returns|Raises|Attributes|Yields):", text), name


def test_what_is_broken_fails_the_build(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    (tmp_path / "sift_trainer").symlink_to(ROOT / "sift_trainer")
    (tmp_path / "docs" / "forgotten.md").write_text("# Forgotten\n")
    with (tmp_path / "docs" / "limits.md").open("a") as limits:
        limits.write("\n[a](nowhere.md) [b](method.md#nothing) [c](../README.md)\n")
    with (tmp_path / "docs" / "api" / "tasks.md").open("a") as tasks:
        tasks.write("\n[d][sift_trainer.NoSuchName]\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    for part in ("forgotten.md", "nowhere.md", "#nothing", "../README.md", "NoSuchName"):
        assert part in done.stderr, part


@pytest.fixture(scope="module", params=["PHONE", "DESK"])
def seen(
    request: pytest.FixtureRequest, site: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[int, int], Look]:
    size = getattr(browser, request.param)
    pages = [name.replace(".md", ".html") for name in in_nav()]
    return size, look(site, pages, size, tmp_path_factory.mktemp("browser"))


@browser.needs_browser
def test_a_browser_opens_every_page_and_complains_of_nothing(
    seen: tuple[tuple[int, int], Look],
) -> None:
    _, found = seen
    assert len(found.pages) == len(in_nav())
    for name, each in found.pages.items():
        assert each["title"].endswith("sift_trainer"), name
        assert each["loaded"], name
        assert all(url.startswith("http://127.0.0.1:") for url in each["loaded"]), name
    assert len(found.console) == 1
    assert CONTROL in found.console[0]


@browser.needs_browser
def test_nothing_scrolls_sideways_but_tables_and_code(seen: tuple[tuple[int, int], Look]) -> None:
    (width, _), found = seen
    for name, each in found.pages.items():
        assert each["window"] == width, name
        assert each["width"] == width, name
        assert each["right"] <= width, name
        assert each["broken"] == [], name
    if (width, _) == browser.PHONE:
        assert sum(each["scrolling"] for each in found.pages.values()) > 30


@browser.needs_browser
def test_the_picture_fits_the_window(seen: tuple[tuple[int, int], Look]) -> None:
    (width, _), found = seen
    for name in ("index.html", "method.html"):
        [(address, loaded, shown)] = found.pages[name]["images"]
        assert loaded
        assert address.endswith("sift_narrow.svg" if width == 390 else "sift.svg")
        assert shown > 0.8 * min(width, 700)
    for name, each in found.pages.items():
        assert all(loaded for _, loaded, _ in each["images"]), name
