"""``sift-trainer report``: what it writes and says, and errors in one line without a trace."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sift_trainer.commands import main
from tests.reporting.made_up import seeds_of_table_1, write_run

ROOT = Path(__file__).parents[2]


def test_it_runs_as_a_module_and_says_what_it_took(tmp_path: Path) -> None:
    seeds_of_table_1(tmp_path / "runs")
    command = [sys.executable, "-m", "sift_trainer", "report", str(tmp_path / "runs")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "4 whole runs, 0 not in the tables" in done.stdout
    assert "target accuracy 0.6400 (the paper's, which the baseline reaches)" in done.stdout
    page = tmp_path / "runs" / "report" / "report.html"
    assert f"written: {page}" in done.stdout
    assert page.is_file()
    # The report's own folder is no run, and a second report is the same.
    before = page.read_bytes()
    assert main(["report", str(tmp_path / "runs")]) == 0
    assert page.read_bytes() == before


def test_output_and_target_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(seeds_of_table_1(tmp_path / "runs") / f"seed_{seed}") for seed in (0, 1)]
    output = tmp_path / "there" / "page"
    assert main(["report", *runs, "--output", str(output), "--target_accuracy", "0.5"]) == 0
    assert "target accuracy 0.5000 (as asked for)" in capsys.readouterr().out
    assert (output / "report.md").is_file()


def test_only_half_written_runs_give_a_page_that_lists_them(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "mine", [0.1], max_steps=30, finished=False)
    assert main(["report", str(tmp_path / "runs")]) == 0
    text = (tmp_path / "runs" / "report" / "report.md").read_text()
    assert "0 whole runs, 1 not in the tables" in text
    assert "- mine: no end: the log stops at step 10 of 30" in text


def test_the_console_command_is_this_one() -> None:
    assert 'sift-trainer = "sift_trainer.commands:main"' in (ROOT / "pyproject.toml").read_text()


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that a refused call says."""
    assert main(["report", *argv]) == 2
    out, error = capsys.readouterr()
    assert not out
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    return error


def test_a_users_errors_are_one_line_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere, empty = tmp_path / "nowhere", tmp_path / "empty"
    empty.mkdir()
    output = tmp_path / "out"
    flags = ["--output", str(output)]
    assert "is not a folder; give the output_dir" in refused(capsys, str(nowhere), *flags)
    assert "has no run in it" in refused(capsys, str(empty), *flags)
    log = write_run(tmp_path / "runs" / "mine", [0.1, 0.2]) / "log.jsonl"
    written = log.read_text().splitlines()
    log.write_text("\n".join([written[0], "not JSON", *written[1:]]) + "\n")
    assert "log.jsonl, line 2 is none" in refused(capsys, str(tmp_path / "runs"), *flags)
    assert not output.exists()
    assert not (tmp_path / "runs" / "report").exists()


def test_an_output_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "runs" / "mine", [0.1])
    (tmp_path / "file").touch()
    assert "file" in refused(capsys, str(tmp_path / "runs"), "--output", str(tmp_path / "file"))


@pytest.mark.parametrize("value", ["64", "0", "nan", "much"])
def test_a_target_that_is_no_accuracy(
    value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path), "--target_accuracy", value])
    assert ended.value.code == 2
    assert "is no accuracy in (0, 1], such as 0.64" in capsys.readouterr().err
