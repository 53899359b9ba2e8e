"""What a report says about its own numbers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sift_trainer.reproduction.report.caveats import caveats
from sift_trainer.reproduction.report.paper_tables import table_1
from sift_trainer.reproduction.report.targets import choose_target
from sift_trainer.reproduction.run_log import FILE
from tests.reporting import made_up
from tests.reporting.made_up import PLAIN, edit_start, seeds_of_table_1, write_run
from tests.reporting.test_tables import comparisons, only

ENTROPY = {"sift_criterion": "entropy"}


def said(folder: Path) -> str:
    comparison = only(folder)
    return "\n".join(caveats(comparison, choose_target(comparison, None)))


def test_runs_with_all_that_they_need_are_only_smaller_than_the_papers(tmp_path: Path) -> None:
    (line,) = said(seeds_of_table_1(tmp_path)).splitlines()
    assert "smaller or larger than the paper's" in line


def test_runs_of_the_papers_size_have_no_caveat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four evaluations, 200,000 steps apart."""
    monkeypatch.setattr(made_up, "EVERY", 200_000)
    monkeypatch.setitem(made_up.SIFT, "sift_warmup_steps", 20_000.0)
    assert said(seeds_of_table_1(tmp_path)) == ""


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ({"entropy": {"sift": ENTROPY}}, "A single seed, .*: entropy\\."),
        ({"a/base": {"sift": PLAIN}, "b/base": {"sift": PLAIN}}, "base \\(2 runs, 1 seeds\\)"),
        ({"base": {"rates": [1e-4, 2.5e-5]}}, "not fully decayed.*: base \\(25% of its peak"),
        ({"base": {"sift": PLAIN}, "plain": {"sift": {**PLAIN, **ENTROPY}}}, "others are: plain"),
        ({"base": {"accuracies": [0.3, 0.2]}}, "before the first evaluation.*: base\\."),
    ],
)
def test_caveats(runs: dict[str, dict[str, Any]], text: str, tmp_path: Path) -> None:
    for name, values in runs.items():
        write_run(tmp_path / name, **{"accuracies": [0.1, 0.2], **values})
    assert any(map(re.compile(text).search, said(tmp_path).splitlines()))


def test_a_rate_that_was_not_logged_at_the_end_is_not_guessed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "baseline", [0.2] * 4, sift=PLAIN)
    text = (run / FILE).read_text().replace('"learning_rate": 0.0, ', "")
    (run / FILE).write_text(text)
    assert "not fully decayed" not in said(tmp_path)
    assert "logged before the end" in said(tmp_path)
    assert "baseline (100% of its peak at update 30 of 40)" in said(tmp_path)


def test_the_last_step_of_a_short_linear_schedule_is_decayed(tmp_path: Path) -> None:
    """Forty steps: the last of them uses a fortieth of the peak."""
    write_run(tmp_path / "baseline", [0.2] * 4, sift=PLAIN, rates=[4e-4, 3e-4, 2e-4, 1e-5])
    assert "not fully decayed" not in said(tmp_path)


def test_machines_that_differ(tmp_path: Path) -> None:
    seeds_of_table_1(tmp_path)
    edit_start(tmp_path / "seed_1" / "loss_exit_1", accelerator="NVIDIA A100")
    text = said(tmp_path)
    assert "Machines differ, and times on different machines are not compared" in text
    assert "NVIDIA A100" in text
    assert "seed_1/loss_exit_1" in text


def test_settings_that_were_changed_and_unknown_ones(tmp_path: Path) -> None:
    run = write_run(tmp_path / "baseline", [0.1, 0.2], sift=PLAIN)
    start, *rest = (run / FILE).read_text().splitlines()
    again = json.loads(start)
    again["training"]["weight_decay"] = 0.5
    (run / FILE).write_text("\n".join([start, json.dumps(again), *rest]) + "\n")
    assert "changed when the run was resumed: training.weight_decay of baseline." in said(tmp_path)
    (run / FILE).unlink()
    text = said(tmp_path)
    assert "Settings were not logged" in text
    assert "No machine was logged" in text


def test_runs_with_unknown_settings_are_compared_within_their_folder(tmp_path: Path) -> None:
    """As they are logged by ``RunLog({})``: by name, and beside no row of the paper's."""
    for name in ("a/vanilla", "a/loss", "b/loss"):
        run = write_run(tmp_path / name, [0.1, 0.2])
        start, *rest = (run / FILE).read_text().splitlines()
        machine = json.loads(start)["machine"]
        bare = json.dumps({"event": "start", "step": 0, "machine": machine})
        (run / FILE).write_text("\n".join([bare, *rest]) + "\n")
    first, second = comparisons(tmp_path)
    assert [group.label for group in first.groups] == ["vanilla", "loss"]
    assert (first.name, second.name, second.baseline) == ("a", "b", None)
    last = table_1(first)[-1]
    assert (last["algorithm"], last["paper"], last["run"]) == ("not known", "-", "loss")
