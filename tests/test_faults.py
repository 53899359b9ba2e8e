"""What a run survives: death while saving, a full disk, a signal. Real processes, real faults."""

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.faulty_runs import AT

ROOT = Path(__file__).resolve().parents[1]
STEPS = 6
SAVING = {"max_steps": STEPS, "save_steps": 2, "save_total_limit": 1}
WORKERS = {"max_steps": STEPS, "save_steps": 1000, "dataloader_num_workers": 2}
EVALUATING = {**WORKERS, "eval_strategy": "steps", "eval_steps": 2}
BEST = {
    **EVALUATING,
    "save_steps": 2,
    "save_total_limit": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
    "greater_is_better": True,  # so that the first is the best
}

# The model takes 170 kB, the state of its optimizer twice that.
IN_WEIGHTS, IN_OPTIMIZER = 100_000, 250_000
DEATHS: dict[str, dict[str, Any]] = {
    "in the weights": {"limit": IN_WEIGHTS, "deadly": True, "died": signal.SIGXFSZ},
    "in the optimizer": {"limit": IN_OPTIMIZER, "deadly": True, "died": signal.SIGXFSZ},
    **{
        point: {"fault": point, "died": signal.SIGKILL}
        for point in (
            "before the optimizer",
            "before the random state",
            "before the manifest",
            "rotating",
        )
    },
}
FULL = {"full in the weights": IN_WEIGHTS, "full in the optimizer": IN_OPTIMIZER}
SIGNALS: dict[str, dict[str, Any]] = {
    "in a step": {"announce": ["step", 3], "arguments": WORKERS},
    "in an evaluation": {"announce": ["evaluation", 2], "arguments": EVALUATING},
    "before an evaluation": {"announce": ["step", 3], "arguments": EVALUATING},
    "after the best": {"announce": ["step", 2], "arguments": BEST},
    "with jit checkpoints": {
        "announce": ["step", 3],
        "arguments": {**WORKERS, "enable_jit_checkpoint": True},
    },
}

Reports = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def output(folder: Path) -> str:
    """Does all runs; gives what they printed."""
    runs: list[dict[str, Any]] = [
        {"name": "run", "folder": "whole", "arguments": {**SAVING, "save_steps": 1000}},
        {"name": "run", "folder": "whole evaluating", "arguments": EVALUATING},
    ]
    for case, fault in DEATHS.items():
        runs.append({"name": "run", "folder": case, "arguments": SAVING, **fault})
    for case, limit in FULL.items():
        runs.append({"name": "run", "folder": case, "arguments": SAVING, "limit": limit})
    for case, fault in SIGNALS.items():
        runs.append({"name": "run", "folder": case, **fault})
    for run in runs[2:]:
        again = {"folder": run["folder"], "arguments": run["arguments"]}
        runs.append({"name": "resumed", "resume": True, **again})
    for run in runs:
        run["folder"] = str(folder / run["folder"])
        Path(run["folder"]).mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faulty_runs", json.dumps(runs)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def reports(folder: Path, output: str) -> Reports:
    """Folder / name of the run -> what it wrote at its end, for those that lived to it."""
    found = folder.glob("*/*.json")
    return {f"{path.parent.name}/{path.stem}": json.loads(path.read_text()) for path in found}


@pytest.mark.parametrize("case", DEATHS)
def test_death_while_saving(case: str, folder: Path, reports: Reports, output: str) -> None:
    """The checkpoint of step 2 is still there, and taken, until that of step 4 is whole."""
    assert f"{case}/run" not in reports
    start = AT if case == "rotating" else 2
    whole, resumed = reports["whole/run"], reports[f"{case}/resumed"]
    assert len(whole["losses"]) == STEPS
    assert resumed["losses"] == whole["losses"][start:]
    assert resumed["checkpoints"] == [f"checkpoint-{STEPS}"]
    said = f"{folder / case}/checkpoint-{AT} is half-written and not resumed from"
    assert (said in output) == (start == 2)


@pytest.mark.parametrize("case", FULL)
def test_full_disk(case: str, folder: Path, reports: Reports) -> None:
    report = reports[f"{case}/run"]
    assert report["error"]["errno"] in (errno.EFBIG, errno.EIO)
    message = report["error"]["message"]
    assert f"{folder / case}/checkpoint-{AT} could not be written" in message
    assert ("File too large" if case == "full in the weights" else "unexpected pos") in message
    assert f"{folder / case}/checkpoint-2 is whole" in message
    assert report["checkpoints"] == ["checkpoint-2"]
    assert report["limit"] == 1
    assert report["handler restored"]
    assert reports[f"{case}/resumed"]["losses"] == reports["whole/run"]["losses"][2:]


@pytest.mark.parametrize("case", SIGNALS)
def test_signal_stops_after_the_step(case: str, reports: Reports, output: str) -> None:
    """The signal goes to the loader's workers too. Its process ends with status 0, as `main` of
    `faulty_runs` checks."""
    report, resumed = reports[f"{case}/run"], reports[f"{case}/resumed"]
    assert report["stopped"]
    assert not resumed["stopped"]
    assert report["handler restored"]
    step = report["step"]
    assert 2 < step < STEPS
    best = ["checkpoint-2"] if case == "after the best" else []
    assert report["checkpoints"] == [*best, f"checkpoint-{step}"]
    assert report["limit"] == (1 if best else None)
    assert report["logged"][-1] == step  # the loss of a logging interval that is cut short
    if case != "before an evaluation":
        evaluating = case in ("in an evaluation", "after the best")
        name = "whole evaluating/run" if evaluating else "whole/run"
        assert report["losses"] + resumed["losses"] == reports[name]["losses"]
    assert f"stopping after step {step}" in output


def test_evaluation_due_at_the_stop_is_left_out(reports: Reports) -> None:
    assert reports["whole evaluating/run"]["evaluated"] == [2, 4, 6]
    report = reports["before an evaluation/run"]
    assert report["step"] == 4
    assert report["evaluated"] == [2]


def test_both_ways_of_saving_on_a_signal_do_not_disturb_each_other(
    folder: Path, reports: Reports
) -> None:
    step = reports["with jit checkpoints/run"]["step"]
    (checkpoint,) = (folder / "with jit checkpoints").glob(f"checkpoint-{step}")
    assert (checkpoint / "checkpoint_manifest.json").is_file()
    assert not (checkpoint / "checkpoint-is-incomplete.txt").exists()


def test_arguments_are_saved_with_the_limit_they_had(folder: Path, reports: Reports) -> None:
    """Rotation is held back by taking the limit away for a moment."""
    saved = torch.load(
        folder / "rotating" / f"checkpoint-{STEPS}" / "training_args.bin", weights_only=False
    )
    assert saved.save_total_limit == 1
