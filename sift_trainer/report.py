"""From the log of a training run to the numbers of the paper's tables and of Figures 1 and 2.

Everything is computed from a run's log lines (`log.jsonl`, or the Trainer's `log_history`):
evaluation lines carry the accuracies, training lines the totals that `SiftCallback` measures.
Seconds are the sum of the measured phases, so evaluation and checkpointing never count as training.
"""

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sift_trainer.measuring.timing import PHASES
from sift_trainer.run_log import FILE, read_run_log

History = Sequence[Mapping[str, Any]]

MEASURES = {"mlm_accuracy": "MLM accuracy", "accuracy": "accuracy"}
"""What runs are compared by, as they log it (after ``eval_``), and its name in tables."""


@dataclass(frozen=True)
class Totals:
    """What a run has spent since its start.

    Attributes:
        step: optimizer steps.
        seconds: per phase, on the logging process.
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

    Attributes:
        accuracy: what runs are compared by, see `MEASURES`.
        nsp_accuracy: of next-sentence prediction, where that is trained.
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
        """What was spent when the accuracy was first reached; None if it never is.

        Linear between evaluations, like the hours to 64% that Section 7.1 reads off Figure 2. An
        accuracy that the first evaluation has already may have been reached at any time before.
        """
        if self.points[0].accuracy >= accuracy:
            return self.points[0].spent
        for before, after in pairwise(self.points):
            if after.accuracy >= accuracy:
                share = (accuracy - before.accuracy) / (after.accuracy - before.accuracy)
                return _between(before.spent, after.spent, share)
        return None

    def seconds_to(self, accuracy: float) -> float | None:
        """Training seconds until the accuracy is reached, see `spent_at`; None if it never is."""
        spent = self.spent_at(accuracy)
        return None if spent is None else spent.total_seconds

    @property
    def while_sifting(self) -> dict[str, float]:
        """Seconds per phase of the stretches that were sifted."""
        return {
            phase: sum(end.seconds[phase] - begin.seconds[phase] for begin, end in self.sifted)
            for phase in PHASES
        }


def read_run(name: str, folder: str | Path) -> Run:
    """The run whose `log.jsonl` is in `folder`, finished or not."""
    return summarize(name, read_run_log(folder))


def earlier_runs(folder: Path, known: Collection[str]) -> list[Run]:
    """The evaluated runs whose folders are in `folder`, by path in it, without the `known` ones."""
    runs = []
    levels = {name.count("/") + 1 for name in known}
    for file in sorted(file for level in levels for file in folder.glob("*/" * level + FILE)):
        name = file.parent.relative_to(folder).as_posix()
        if name not in known:
            with suppress(ValueError):  # not evaluated yet
                runs.append(read_run(name, file.parent))
    return runs


def summarize(name: str, history: History) -> Run:
    """The run that `history` describes.

    Raises `ValueError` where there is no evaluation with one of the `MEASURES`, no training line
    with the `sift/*` totals, or an evaluation later than the last of those.
    """
    spent = totals(history)
    logged = {key for line in history for key in line}
    measure = next((measure for measure in MEASURES if f"eval_{measure}" in logged), None)
    if measure is None:
        wanted = " or ".join(f"eval_{measure}" for measure in MEASURES)
        raise ValueError(f"run {name!r} logged no {wanted}; set eval_strategy='steps'")
    evaluations = {
        int(line["step"]): line for line in history if f"eval_{measure}" in line
    }  # the last one of a step: a resumed run may have evaluated it twice
    try:
        points = [
            Point(totals_at(spent, step), line[f"eval_{measure}"], line.get("eval_nsp_accuracy"))
            for step, line in sorted(evaluations.items())
        ]
    except ValueError as error:
        raise ValueError(f"run {name!r}: {error}") from error
    return Run(name, points, _sifted(spent), MEASURES[measure])


def totals(history: History) -> list[Totals]:
    """The totals in each log line that carries them, by step, beginning with zeros at step 0."""
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
    """The totals at `step`, linear between the two log lines around it.

    Raises `ValueError` beyond the last line, where a guess would understate what was spent.
    """
    steps = [line.step for line in spent]
    if step > steps[-1]:
        raise ValueError(
            f"step {step} was evaluated, but the last sift/* totals were logged at step "
            f"{steps[-1]}; log at every evaluation, as with logging_steps equal to eval_steps"
        )
    index = bisect_left(steps, step)
    if steps[index] == step:
        return spent[index]
    before, after = spent[index - 1], spent[index]
    return _between(before, after, (step - before.step) / (after.step - before.step))


def _sifted(spent: Sequence[Totals]) -> list[tuple[Totals, Totals]]:
    """Stretches between log lines in which scoring took time, neighbours joined."""
    stretches: list[tuple[Totals, Totals]] = []
    for before, after in pairwise(spent):
        if after.seconds["sampling"] <= before.seconds["sampling"]:
            continue
        if stretches and stretches[-1][1] is before:
            stretches[-1] = (stretches[-1][0], after)
        else:
            stretches.append((before, after))
    return stretches


def _between(before: Totals, after: Totals, share: float) -> Totals:
    def mix(low: float, high: float) -> float:
        return low + share * (high - low)

    return Totals(
        mix(before.step, after.step),
        {phase: mix(before.seconds[phase], after.seconds[phase]) for phase in before.seconds},
        mix(before.backprop_samples, after.backprop_samples),
        mix(before.candidates, after.candidates),
    )
