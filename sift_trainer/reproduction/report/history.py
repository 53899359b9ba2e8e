"""From the log of a training run to its accuracies and what they cost.

Everything is computed from a run's log lines (`log.jsonl`, or the Trainer's `log_history`).
Evaluation lines have the accuracies, training lines the totals that `SiftCallback` measures.
Seconds are the sum of the measured phases: evaluation and checkpoints do not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sift_trainer.measuring.timing import PHASES
from sift_trainer.reproduction.run_log import read_run_log

History = Sequence[Mapping[str, Any]]

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
    """One evaluation: what the run had spent by then, and accuracies in [0, 1].

    `nsp_accuracy` is that of next-sentence prediction, None if that is not trained.
    """

    spent: Totals
    accuracy: float
    nsp_accuracy: float | None


@dataclass(frozen=True)
class Run:
    """One run: its evaluations in order, and the (begin, end) of each stretch that was sifted.

    `measure` is the name of its accuracy, one of the values of `MEASURES`.
    """

    name: str
    points: list[Point]
    sifted: list[tuple[Totals, Totals]]
    measure: str

    @property
    def final(self) -> Point:
        return self.points[-1]

    @property
    def best_accuracy(self) -> float:
        return max(point.accuracy for point in self.points)

    def spent_at(self, accuracy: float) -> Totals | None:
        """What was spent when the accuracy was first reached; None if it never was.

        Linear between evaluations, as the hours to 64% that Section 7.1 reads off Figure 2. If the
        first evaluation is above the accuracy, its totals are an upper bound.
        """
        if self.points[0].accuracy >= accuracy:
            return self.points[0].spent
        for before, after in pairwise(self.points):
            if after.accuracy >= accuracy:
                share = (accuracy - before.accuracy) / (after.accuracy - before.accuracy)
                step = before.spent.step + share * (after.spent.step - before.spent.step)
                return totals_at([before.spent, after.spent], step)
        return None

    def seconds_to(self, accuracy: float) -> float | None:
        """Training seconds until the accuracy was first reached; None if it never was."""
        spent = self.spent_at(accuracy)
        return None if spent is None else spent.total_seconds

    @property
    def while_sifting(self) -> dict[str, float]:
        """Seconds of each phase in the sifted stretches."""
        return {
            phase: sum(end.seconds[phase] - begin.seconds[phase] for begin, end in self.sifted)
            for phase in PHASES
        }


def read_run(name: str, folder: str | Path) -> Run:
    """The run whose `log.jsonl` is in `folder`, finished or not."""
    return summarize(name, read_run_log(folder))


def summarize(name: str, history: History) -> Run:
    """The run that `history` describes.

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
        Point(totals_at(spent, step), line[f"eval_{measure}"], line.get("eval_nsp_accuracy"))
        for step, line in sorted(evaluations.items())
    ]
    return Run(name, points, _sifted(spent), MEASURES[measure])


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
    steps = [each.step for each in spent]

    def at_step(values: Sequence[float]) -> float:
        return float(np.interp(step, steps, values))

    return Totals(
        step,
        {phase: at_step([each.seconds[phase] for each in spent]) for phase in PHASES},
        at_step([each.backprop_samples for each in spent]),
        at_step([each.candidates for each in spent]),
    )


def _sifted(spent: Sequence[Totals]) -> list[tuple[Totals, Totals]]:
    """Stretches between log lines in which scoring took time; adjacent stretches are joined."""
    stretches: list[tuple[Totals, Totals]] = []
    for before, after in pairwise(spent):
        if after.seconds["sampling"] > before.seconds["sampling"]:
            joined = bool(stretches) and stretches[-1][1] is before
            stretches.append((stretches.pop()[0] if joined else before, after))
    return stretches
