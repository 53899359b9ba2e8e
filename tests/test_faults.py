"""Death while saving, a full disk, a signal: real processes, real faults."""

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
    "before the manifest": {"fault": "before the manifest", "died": signal.SIGKILL},
    "rotating": {"fault": "rotating", "died": signal.SIGKILL},
}
FULL = {"full in the weights": IN_WEIGHTS, "full in the optimizer": IN_OPTIMIZER}
SIGNALS: dict[str, dict[str, Any]] = {
    "in a step": {
        "announce": ["step", 3],
        "arguments": {**WORKERS, "enable_jit_checkpoint": True},
    },
    "in an evaluation": {"announce": ["evaluation", 2], "arguments": BEST},
    "before an evaluation": {"announce": ["step", 3], "arguments": EVALUATING},
}

Reports = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def output(folder: Path) -> str:
    """What all runs printed."""
    runs: list[dict[str, Any]] = [
        {"name": "run", "folder": "whole", "arguments": {**SAVING, "save_steps": 1000}},
        {"name": "run", "folder": "whole evaluating", "arguments": EVALUATING},
    ]
    faults = {**DEATHS, **{case: {"limit": limit} for case, limit in FULL.items()}, **SIGNALS}
    for case, fault in faults.items():
        run = {"folder": case, "arguments": SAVING, **fault}
        again = {"folder": case, "arguments": run["arguments"], "resume": True}
        runs += [{"name": "run", **run}, {"name": "resumed", **again}]
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
    """Folder / name of a run -> its report, for runs that were not killed."""
    found = folder.glob("*/*.json")
    return {f"{path.parent.name}/{path.stem}": json.loads(path.read_text()) for path in found}


@pytest.mark.parametrize("case", DEATHS)
def test_death_while_saving(case: str, folder: Path, reports: Reports, output: str) -> None:
    """The checkpoint of step 2 is kept, and resumed from, until that of step 4 is whole."""
    assert f"{case}/run" not in reports
    start = AT if case == "rotating" else 2
    whole, resumed = reports["whole/run"], reports[f"{case}/resumed"]
    assert len(whole["losses"]) == STEPS
    assert resumed["losses"] == whole["losses"][start:]
    assert resumed["checkpoints"] == [f"checkpoint-{STEPS}"]
    warning = f"{folder / case}/checkpoint-{AT} is half-written and not resumed from"
    assert (warning in output) == (start == 2)


@pytest.mark.parametrize("case", FULL)
def test_full_disk(case: str, folder: Path, reports: Reports, output: str) -> None:
    """The error of the write is raised; the log names the checkpoint and the newest whole one."""
    report = reports[f"{case}/run"]
    message = "File too large" if case == "full in the weights" else "unexpected pos"
    assert message in report["error"]
    (line,) = [
        line
        for line in output.splitlines()
        if f"{folder / case}/checkpoint-{AT} could not be written (" in line
    ]
    assert line.endswith(f"the newest whole checkpoint is {folder / case}/checkpoint-2")
    assert report["limit"] == 1
    assert report["handler restored"]
    resumed = reports[f"{case}/resumed"]
    assert resumed["losses"] == reports["whole/run"]["losses"][2:]
    assert resumed["checkpoints"] == [f"checkpoint-{STEPS}"]


@pytest.mark.parametrize("case", SIGNALS)
def test_signal_stops_after_the_step(case: str, reports: Reports, output: str) -> None:
    """The signal also reaches the loader's workers. The process ends with status 0."""
    report, resumed = reports[f"{case}/run"], reports[f"{case}/resumed"]
    assert report["stopped"]
    assert not resumed["stopped"]
    assert report["handler restored"]
    step = report["step"]
    assert 2 < step < STEPS
    best = ["checkpoint-2"] if case == "in an evaluation" else []
    assert report["checkpoints"] == [*best, f"checkpoint-{step}"]
    assert report["limit"] == (1 if best else None)
    assert report["logged"][-1] == step  # the loss of a logging interval that is cut short
    if case != "before an evaluation":
        name = "whole evaluating/run" if best else "whole/run"
        assert report["losses"] + resumed["losses"] == reports[name]["losses"]
    assert f"stopping after step {step}" in output


def test_evaluation_due_at_the_stop_is_left_out(reports: Reports) -> None:
    assert reports["whole evaluating/run"]["evaluated"] == [2, 4, 6]
    report = reports["before an evaluation/run"]
    assert report["step"] == 4
    assert report["evaluated"] == [2]


def test_jit_checkpoints_leave_the_signal_to_stop_on_signal(folder: Path, reports: Reports) -> None:
    (checkpoint,) = (folder / "in a step").glob(f"checkpoint-{reports['in a step/run']['step']}")
    assert (checkpoint / "checkpoint_manifest.json").stat().st_size
    assert not (checkpoint / "checkpoint-is-incomplete.txt").exists()


def test_arguments_are_saved_with_their_limit(folder: Path, reports: Reports) -> None:
    """Although `WholeCheckpoints` removes the limit for a moment."""
    path = folder / "rotating" / f"checkpoint-{STEPS}" / "training_args.bin"
    assert torch.load(path, weights_only=False).save_total_limit == 1
