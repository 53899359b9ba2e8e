"""Which runs are in a report, and why others are not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sift_trainer.reproduction.report.history import Run, find_runs
from sift_trainer.reproduction.run_log import FILE
from tests.reproduction.report.made_up import resnet, write_run


def whole(folder: Path) -> Run:
    (run,), left_out = find_runs([folder])
    assert not left_out
    return run


def rewrite(file: Path, *lines: str) -> None:
    file.write_text("".join(line + "\n" for line in lines))


def test_a_whole_run_is_read_with_its_settings(tmp_path: Path) -> None:
    write_run(tmp_path / "mine", [0.1, 0.2], seed=3)
    run = whole(tmp_path)
    assert (run.name, run.seed) == ("mine", 3)
    assert run.setting("training", "sift_criterion") == "loss"
    assert run.setting("images", "dataset") is None
    assert [point.accuracy for point in run.points] == [0.1, 0.2]
    assert run.rates == [(10, 1e-4), (20, 0.0)]
    assert "cores" in min(run.machines)
    assert whole(tmp_path / "mine").name == "mine"


def test_runs_in_several_folders_are_found_once(tmp_path: Path) -> None:
    for name in ("seed_0/learning_rate_0.1/baseline", "seed_1/baseline"):
        write_run(tmp_path / name, [0.1])
    runs, left_out = find_runs([tmp_path / "seed_0", tmp_path / "seed_1", tmp_path / "seed_1"])
    assert [run.name for run in runs] == ["seed_0/learning_rate_0.1/baseline", "seed_1/baseline"]
    assert not left_out


def test_a_run_that_its_time_budget_ended_is_whole(tmp_path: Path) -> None:
    settings = resnet(same_time_as="baseline")
    write_run(tmp_path / "mine", [0.1, 0.2], max_steps=80, settings=settings)
    assert whole(tmp_path).final.spent.step == 20


def test_steps_that_a_resumed_run_repeats_count_once(tmp_path: Path) -> None:
    """A killed process left an unfinished line; the resumed run repeats steps 10 to 20."""
    log = write_run(tmp_path / "mine", [0.1, 0.2]) / FILE
    start, *rest = log.read_text().splitlines()
    again = json.dumps({**json.loads(start), "step": 10})
    rewrite(log, start, *rest[:3], '{"event": "log", "st', again, *rest[2:])
    read = whole(tmp_path)
    assert [point.accuracy for point in read.points] == [0.1, 0.2]
    assert len(read.starts) == 2


def cut(run: Path) -> None:
    (run / FILE).write_bytes((run / FILE).read_bytes()[:-20])


def damage(run: Path) -> None:
    lines = (run / FILE).read_text().splitlines()
    rewrite(run / FILE, *lines[:2], "{", *lines[2:])


def stop(run: Path) -> None:
    """As a signal does: the Trainer logs an end, and there are no results."""
    (run / FILE).write_text((run / FILE).read_text().replace('"max_steps": 20', '"max_steps": 80'))
    (run / "results.json").unlink()


def stop_after_a_shorter_training(run: Path) -> None:
    stop(run)
    results = {"run": {"points": [{"spent": {"step": 10}}]}}
    (run / "results.json").write_text(json.dumps(results))


def drop_last_evaluation(run: Path) -> None:
    lines = (run / FILE).read_text().splitlines()
    rewrite(run / FILE, *(line for line in lines if '"eval_mlm_accuracy": 0.2' not in line))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (cut, "unfinished: the log stops at step 20"),
        (damage, "line 3 cannot be read; remove that line"),
        (stop, "stopped at step 20 of 80, to be resumed"),
        (stop_after_a_shorter_training, "stopped at step 20 of 80, to be resumed"),
        (drop_last_evaluation, "ended at step 20, but the last evaluation is at step 10"),
    ],
)
def test_a_run_that_is_not_whole_is_left_out_with_the_reason(
    change: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    change(write_run(tmp_path / "mine", [0.1, 0.2]))
    runs, left_out = find_runs([tmp_path])
    assert not runs
    assert reason in left_out["mine"]


def test_an_accuracy_that_is_not_a_number_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "mine", [0.1, float("nan"), 0.2])
    _, left_out = find_runs([tmp_path])
    assert left_out == {"mine": "an accuracy is not a number"}
