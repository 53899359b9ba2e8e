"""The command and its page: one file that loads nothing, and its errors."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sift_trainer.__main__ import main
from sift_trainer.reproduction.report import build_report
from sift_trainer.reproduction.report.page import heading, items, table, to_html
from tests.reproduction.report.made_up import PLAIN, resnet, seeds_of_table_1, write_run


class Parts(HTMLParser):
    """The tags of a page, and what they load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "srcset", "data")]


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
    assert main(["report", str(folder)]) == 0
    return folder / "report"


def test_the_page_loads_nothing_and_runs_nothing(report: Path) -> None:
    text = (report / "report.html").read_text()
    parts = Parts(text)
    assert not {"script", "link", "iframe", "object"} & parts.tags
    assert len(parts.sources) == 3
    assert all(source.startswith("data:image/svg+xml;base64,") for source in parts.sources)
    assert "@import" not in text
    assert "url(" not in text
    assert '<meta name="viewport" content="width=device-width' in text


def test_pictures_are_files_too_and_the_markdown_names_them(report: Path) -> None:
    text = (report / "report.md").read_text()
    named = re.findall(r"\]\((.*?\.svg)\)", text)
    assert len(named) == len(set(named)) == 3  # one for each comparison
    assert sorted(path.name for path in report.iterdir()) == sorted(
        [*named, "report.md", "report.html"]
    )
    for title in ("## Not in the tables", "## Table 3:", "### Tables 1 and 6:"):
        assert title in text


def test_the_same_runs_give_the_same_files(report: Path, tmp_path: Path) -> None:
    """The report's own folder is not a run."""
    build_report([report.parent]).write(tmp_path)
    for file in report.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_names_cannot_write_markup() -> None:
    evil = "<img src=x onerror=alert(1)>|a](b) ![c](d) `e"
    text = heading(1, evil) + items([evil]) + "\n" + table([{"a": evil}])
    assert "<img" not in to_html(text, evil, {})
    assert text.count(r"alert(1)&gt;\|a](b) !\[c](d) \`e |") == 1  # one cell


def test_output_target_and_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(seeds_of_table_1(tmp_path / "runs") / f"seed_{seed}") for seed in (0, 1)]
    output, summary = tmp_path / "there" / "page", tmp_path / "docs" / "seeds"
    flags = ["--output", output, "--target_accuracy", "0.5", "--summary", summary]
    assert main(["report", *runs, *map(str, flags)]) == 0
    out = capsys.readouterr().out
    assert "whole runs: 4, not in the tables: 0" in out
    assert "target accuracy 0.5000 (as requested)" in out
    assert f"written: {output / 'report.html'}" in out
    assert (output / "report.md").is_file()
    assert summary.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    data = json.loads(summary.with_suffix(".json").read_text())
    found = {run["name"]: run["points"][-1]["accuracy"] for run in data["runs"]}
    assert found["seed_1/loss_exit_1"] == pytest.approx(0.7)


def test_a_page_without_any_whole_run_lists_the_others(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "mine", [0.1], finished=False)
    assert main(["report", str(tmp_path / "runs")]) == 0
    text = (tmp_path / "runs" / "report" / "report.md").read_text()
    assert "whole runs: 0, not in the tables: 1" in text
    assert "- mine: unfinished: the log stops at step 10" in text


@pytest.mark.parametrize(
    ("folder", "flags", "message"),
    [
        ("nowhere", [], "has no log.jsonl in it; give the output_dir"),
        ("runs", ["--output", "{0}/file"], "file"),
        ("runs", ["--target_accuracy", "64"], "target_accuracy=64.0 is not in (0, 1]"),
    ],
)
def test_a_users_errors_are_short_and_write_nothing(
    folder: str, flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    write_run(tmp_path / "runs" / "mine", [0.1])
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", str(tmp_path / folder), *(f.format(tmp_path) for f in flags)]) == 2
    out, error = capsys.readouterr()
    assert not out
    assert message in error.splitlines()[-1]
    assert sorted(tmp_path.rglob("*")) == before
