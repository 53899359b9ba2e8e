"""What a report says about its own numbers."""

import json
from pathlib import Path

import pytest

from sift_trainer.reporting.caveats import caveats
from sift_trainer.reporting.paper_tables import table_1
from sift_trainer.reporting.targets import choose_target
from sift_trainer.run_log import FILE
from tests.reporting import made_up
from tests.reporting.made_up import PLAIN, edit_start, seeds_of_table_1, write_run
from tests.reporting.test_tables import comparisons, only


def said(folder: Path) -> str:
    comparison = only(folder)
    return "\n".join(caveats(comparison, choose_target(comparison, None)))


def test_of_several_seeds_on_one_machine_with_decayed_rates_only_the_size_is_said(
    tmp_path: Path,
) -> None:
    (line,) = said(seeds_of_table_1(tmp_path)).splitlines()
    assert "smaller or larger than the paper's" in line


def test_of_the_papers_size_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four evaluations, 200,000 steps apart."""
    monkeypatch.setattr(made_up, "EVERY", 200_000)
    monkeypatch.setitem(made_up.SIFT, "sift_warmup_steps", 20_000.0)
    assert said(seeds_of_table_1(tmp_path)) == ""


def test_a_single_seed(tmp_path: Path) -> None:
    seeds_of_table_1(tmp_path)
    write_run(tmp_path / "entropy", [0.1, 0.2, 0.3, 0.4], sift={"sift_criterion": "entropy"})
    assert "A single seed: entropy." in said(tmp_path)


def test_repeats_of_one_seed_are_no_seeds(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name / "baseline", [0.2], sift=PLAIN)
    assert "baseline: 2 runs with 1 seeds" in said(tmp_path)


def test_rates_that_were_not_decayed(tmp_path: Path) -> None:
    rates = [1e-4, 1e-4, 5e-5, 2.5e-5]
    write_run(tmp_path / "baseline", [0.2] * 4, sift=PLAIN, rates=rates)
    write_run(tmp_path / "loss", [0.2] * 4)
    text = said(tmp_path)
    assert "The learning rate was not fully decayed" in text
    assert "baseline (25% of its peak at update 40 of 40)" in text
    assert "loss (" not in text


def test_a_rate_that_was_not_logged_at_the_end_is_not_guessed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "baseline", [0.2] * 4, sift=PLAIN)
    text = (run / FILE).read_text().replace('"learning_rate": 0.0, ', "")
    (run / FILE).write_text(text)
    assert "not fully decayed" not in said(tmp_path)
    assert "last logged before the end" in said(tmp_path)
    assert "baseline (100% of its peak at update 30 of 40)" in said(tmp_path)


def test_the_last_step_of_a_short_linear_schedule_is_decayed(tmp_path: Path) -> None:
    """Forty steps: the last of them uses a fortieth of the peak."""
    write_run(tmp_path / "baseline", [0.2] * 4, sift=PLAIN, rates=[4e-4, 3e-4, 2e-4, 1e-5])
    assert "not fully decayed" not in said(tmp_path)


def test_machines_that_differ(tmp_path: Path) -> None:
    seeds_of_table_1(tmp_path)
    edit_start(tmp_path / "seed_1" / "loss_exit_1", accelerator="NVIDIA A100")
    text = said(tmp_path)
    assert "Machines differ, and times on different machines are not compared." in text
    assert "NVIDIA A100" in text
    assert "seed_1/loss_exit_1" in text


def test_no_baseline_and_what_the_nearest_differs_in(tmp_path: Path) -> None:
    write_run(tmp_path / "baseline", [0.1], sift=PLAIN)
    write_run(tmp_path / "loss", [0.2], learning_rate=1e-3)
    _, second = comparisons(tmp_path)
    text = "\n".join(caveats(second))
    assert "no baseline that differs in sifting alone" in text
    assert "differs in training.learning_rate." in text


def test_unknown_settings_and_changed_ones(tmp_path: Path) -> None:
    run = write_run(tmp_path / "baseline", [0.1, 0.2], sift=PLAIN)
    start, *rest = (run / FILE).read_text().splitlines()
    again = json.loads(start)
    again["step"] = 0
    again["training"]["weight_decay"] = 0.5
    (run / FILE).write_text("\n".join([start, json.dumps(again), *rest]) + "\n")
    assert "baseline was resumed with another training.weight_decay." in said(tmp_path)
    (run / FILE).unlink()
    text = said(tmp_path)
    assert "Settings were not logged" in text
    assert "No machine was logged" in text


def test_runs_of_unknown_settings_are_compared_within_their_folder(tmp_path: Path) -> None:
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
    last = list(table_1(first)[-1].values())
    assert (last[0], last[2], last[-1]) == ("not known", "-", "loss")
    assert "Settings were not logged" in "\n".join(caveats(first))


def test_a_target_that_is_there_at_the_first_evaluation(tmp_path: Path) -> None:
    write_run(tmp_path / "baseline", [0.3, 0.2], sift=PLAIN)
    assert "at most those shown: baseline." in said(tmp_path)
