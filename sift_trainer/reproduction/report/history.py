"""From the log of a training run to its accuracies and what they cost.

Evaluation lines have the accuracies, training lines the totals that `SiftCallback` measures.
Seconds are the sum of the measured phases: evaluation and checkpoints do not count.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sift_trainer.measuring.machine import SPEED
from sift_trainer.measuring.timing import PHASES
from sift_trainer.reproduction.run_log import FILE, read_run_log, read_starts

History = Sequence[Mapping[str, Any]]

RESULTS = "results.json"
MEASURES = {"mlm_accuracy": "MLM accuracy", "accuracy": "accuracy"}
"""The metrics by which runs are compared, as they are logged (after ``eval_``), and their names in
tables."""


@dataclass(frozen=True)
class Totals:
    """What a run has spent since its start.

    Attributes:
        step: optimizer steps.
        seconds: of each phase, on the logging process.
        backprop_samples: samples trained on, all processes together.
        candidates: samples drawn, all processes together.
    """

    step: float
    seconds: dict[str, float]
    backprop_samples: float
    candidates: float

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Point:
    """One evaluation: what the run had spent by then, and its accuracy in [0, 1]."""

    spent: Totals
    accuracy: float


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        points: its evaluations in order.
        measure: the name of its accuracy, one of the values of `MEASURES`.
        rates: (step, learning rate) of the training lines.
        starts: the start line of each start and resume, with the settings; empty without a log.
    """

    name: str
    points: list[Point]
    measure: str
    rates: list[tuple[float, float]]
    starts: Sequence[Mapping[str, Any]]

    def results(self) -> dict[str, Any]:
        return {name: asdict(self)[name] for name in ("name", "points", "measure")}

    def setting(self, *path: str) -> Any:
        """A value of the settings of the last start; None if it is not there."""
        value: Any = self.starts[-1]
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    @property
    def seed(self) -> Any:
        return self.setting("training", "seed")

    @property
    def machines(self) -> set[str]:
        """The different machines that it was on, in words."""
        found = set()
        for start in self.starts:
            parts = {name: start["machine"].get(name) for name in SPEED}
            parts |= {
                "processes": start.get("processes"),
                "torch": start["machine"]["versions"]["torch"],
            }
            found.add(", ".join(f"{name} {value}" for name, value in parts.items() if value))
        return found

    @property
    def final(self) -> Point:
        return self.points[-1]

    def spent_at(self, accuracy: float) -> Totals | None:
        """What was spent when the accuracy was first reached; None if it never was.

        Linear between evaluations, as the hours to 64% that Section 7.1 reads off Figure 2. If the
        first evaluation is above the accuracy, its totals are an upper bound.
        """
        reached = (i for i, point in enumerate(self.points) if point.accuracy >= accuracy)
        index = next(reached, None)
        if not index:
            return None if index is None else self.points[0].spent
        before, after = self.points[index - 1 : index + 1]
        share = (accuracy - before.accuracy) / (after.accuracy - before.accuracy)
        step = before.spent.step + share * (after.spent.step - before.spent.step)
        return totals_at([before.spent, after.spent], step)

    def seconds_to(self, accuracy: float) -> float | None:
        """Training seconds until the accuracy was first reached; None if it never was."""
        spent = self.spent_at(accuracy)
        return None if spent is None else spent.total_seconds


def read_run(name: str, folder: str | Path) -> Run:
    """The run whose `log.jsonl` is in `folder`, finished or not."""
    return summarize(name, read_run_log(folder), read_starts(folder))


def summarize(name: str, history: History, starts: History = ()) -> Run:
    """The run that the Trainer's `log_history`, or the lines of a log, describe.

    Raises:
        ValueError: no evaluation has one of the `MEASURES`, or one is later than the last line
            with `sift/*` totals.
    """
    spent = totals(history)
    logged = {key for line in history for key in line}
    measure = next((measure for measure in MEASURES if f"eval_{measure}" in logged), None)
    if measure is None:
        wanted = " or ".join(f"eval_{measure}" for measure in MEASURES)
        raise ValueError(f"run {name!r} logged no {wanted}; set eval_strategy='steps'")
    # A resumed run may have evaluated a step twice: the last one counts.
    evaluations = {int(line["step"]): line for line in history if f"eval_{measure}" in line}
    last = max(evaluations)
    if last > spent[-1].step:
        raise ValueError(
            f"run {name!r}: step {last} was evaluated, but the last sift/* totals were logged at "
            f"step {spent[-1].step}; log at every evaluation: set logging_steps to eval_steps"
        )
    points = [
        Point(totals_at(spent, step), line[f"eval_{measure}"])
        for step, line in sorted(evaluations.items())
    ]
    rates = [(line["step"], line["learning_rate"]) for line in history if "learning_rate" in line]
    return Run(name, points, MEASURES[measure], rates, starts)


def totals(history: History) -> list[Totals]:
    """The totals of each log line that has them, by step, beginning with zeros at step 0."""
    lines = {
        line["step"]: Totals(
            line["step"],
            {phase: line[f"sift/{phase}_hours"] * 3600 for phase in PHASES},
            line["sift/backprop_samples"],
            line["sift/candidates"],
        )
        for line in history
        if "sift/backprop_samples" in line
    }
    start = Totals(0, dict.fromkeys(PHASES, 0.0), 0, 0)
    return [start, *(lines[step] for step in sorted(lines) if step > 0)]


def totals_at(spent: Sequence[Totals], step: float) -> Totals:
    """The totals at `step`, linear between the two of `spent` around it."""
    rows = [(*each.seconds.values(), each.backprop_samples, each.candidates) for each in spent]
    steps = [each.step for each in spent]
    values = [float(np.interp(step, steps, column)) for column in zip(*rows, strict=True)]
    return Totals(step, dict(zip(PHASES, values, strict=False)), *values[len(PHASES) :])


def find_runs(folders: Sequence[Path]) -> tuple[list[Run], dict[str, str]]:
    """The whole runs in the folders and their subfolders; for each other run, the reason.

    The name of a run is the path of its folder in the folder that all runs are in.

    Raises:
        ValueError: a folder does not exist or has no run in it.
    """
    places: set[Path] = set()
    for folder in folders:
        found = {path.parent for path in folder.resolve().rglob(FILE)}
        if not found:
            raise ValueError(f"{folder} has no {FILE} in it; give the output_dir of a training")
        places |= found
    root = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    runs: list[Run] = []
    left_out: dict[str, str] = {}
    for place in sorted(places):
        name = place.name if place == root else place.relative_to(root).as_posix()
        try:
            runs.append(_read_whole_run(name, place))
        except ValueError as error:
            left_out[name] = str(error)
    return runs, left_out


def _read_whole_run(name: str, folder: Path) -> Run:
    """Raises `ValueError` with the reason why the run is not whole."""
    history = read_run_log(folder)
    last = max((line["step"] for line in history), default=0)
    ends = [line for line in history if "train_runtime" in line and line["step"] == last]
    if not ends:
        raise ValueError(f"unfinished: the log stops at step {last}")
    # A run that a time budget ended has results; one that a signal stopped has none of that step.
    results, planned = folder / RESULTS, ends[-1]["max_steps"]
    points = json.loads(results.read_text())["run"]["points"] if results.is_file() else []
    if last < planned and not (points and points[-1]["spent"]["step"] == last):
        raise ValueError(f"stopped at step {last} of {planned}, to be resumed")
    run = read_run(name, folder)
    if run.setting("training") is None:
        raise ValueError(f"{FILE} has no settings of the training")
    if run.final.spent.step != last:
        evaluated = run.final.spent.step
        raise ValueError(f"ended at step {last}, but the last evaluation is at step {evaluated}")
    if not all(math.isfinite(point.accuracy) for point in run.points):
        raise ValueError("an accuracy is not a number")
    return run
