"""Tables over any runs: what they reached, what they spent, and when they reached a target."""

from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

from sift_trainer.reproduction import paper
from sift_trainer.reproduction.report.groups import (
    MASKED_LM,
    Comparison,
    Group,
    ratio,
    spread,
    unit_of,
)
from sift_trainer.reproduction.report.history import Run
from sift_trainer.reproduction.report.page import Table

_PHASES = ("sampling", "forward", "backward", "optimizer", "data")


class Target(NamedTuple):
    """An accuracy in [0, 1], and why it was chosen."""

    accuracy: float
    why: str


def results_table(comparison: Comparison) -> Table:
    """A row for each configuration: last accuracy and training time, also beside the baseline's."""

    def time(run: Run) -> float:
        return run.final.spent.total_seconds

    unit = comparison.unit
    name = comparison.baseline.label if comparison.baseline else "baseline"
    rows = []
    for group in comparison.groups:
        times = [time(run) / unit.seconds for run in group.runs]
        rows.append(
            {
                "run": group.label,
                "seeds": str(len(group.runs)),
                comparison.measure: spread([run.final.accuracy for run in group.runs], ".4f"),
                f"vs {name}": spread([comparison.gain(group)], "+.4f"),
                f"time ({unit.name})": spread(times, unit.form),
                f"time vs {name}": spread([comparison.ratio(group, time, timed=True)], ".2f", "x"),
            }
        )
    return rows


def spending_table(comparison: Comparison) -> Table:
    """A row for each configuration: mean times of the phases and mean samples."""
    unit = comparison.unit
    rows = []
    for group in comparison.groups:
        spent = [run.final.spent for run in group.runs]
        row = {"run": group.label, "updates": f"{mean(each.step for each in spent):,.0f}"}
        for phase in _PHASES:
            time = mean(each.seconds[phase] / unit.seconds for each in spent)
            row[f"{phase} ({unit.name})"] = format(time, unit.form)
        row["backpropagated"] = f"{mean(each.backprop_samples for each in spent):,.0f}"
        row["candidates"] = f"{mean(each.candidates for each in spent):,.0f}"
        rows.append(row)
    return rows


def choose_target(comparison: Comparison, wanted: float | None) -> Target:
    """The wanted one; else the paper's, if every seed of a masked-LM baseline reaches it; else the
    highest that all runs reach."""
    if wanted is not None:
        return Target(wanted, "as requested")
    base = comparison.baseline if comparison.measure == MASKED_LM else None
    if base is not None and min(_best(base.runs)) >= paper.TARGET_ACCURACY:
        return Target(paper.TARGET_ACCURACY, "the paper's, which the baseline reaches")
    return Target(min(_best(comparison.runs)), "the highest that all runs reach")


def _best(runs: Sequence[Run]) -> list[float]:
    return [max(point.accuracy for point in run.points) for run in runs]


def target_table(comparison: Comparison, target: Target) -> Table:
    """Time and samples to the target (Section 7.1: 43 hours of 57 to 64%), by configuration."""

    def seconds(run: Run) -> float | None:
        return run.seconds_to(target.accuracy)

    def samples(run: Run) -> float | None:
        spent = run.spent_at(target.accuracy)
        return None if spent is None else spent.backprop_samples

    unit = unit_of([time for run in comparison.runs if (time := seconds(run)) is not None])
    rows = []
    for group in comparison.groups:
        times = [ratio(seconds(run), unit.seconds) for run in group.runs]
        row = {
            "run": group.label,
            f"time ({unit.name})": spread(times, unit.form),
            "time ratio": spread([comparison.ratio(group, seconds, timed=True)], ".2f", "x"),
            "paper: time ratio": spread([_papers_ratio(group)], ".2f", "x"),
            "samples trained on": spread([samples(run) for run in group.runs], ",.0f"),
            "samples ratio": spread([comparison.ratio(group, samples)], ".2f", "x"),
            "seeds that reach it": f"{len(times) - times.count(None)} of {len(times)}",
        }
        if comparison.measure != MASKED_LM:
            del row["paper: time ratio"]
        rows.append(row)
    return rows


def target_note(target: Target) -> str:
    return (
        f"To an accuracy of {target.accuracy:.4f} ({target.why}). Values are read off a line "
        "between evaluations; where the first one is above it, they are upper bounds. Time is "
        "training time: sampling counts, evaluation does not. A configuration of which a seed does "
        "not reach the accuracy has no mean."
    )


def _papers_ratio(group: Group) -> float | None:
    if group.is_baseline:
        return 1.0
    if not group.is_the_papers or group.exit_layer == group.depth:
        return None
    hours = paper.HOURS_TO_TARGET.get(group.sift("criterion"), {}).get(group.exit_layer or 0)
    return ratio(hours, paper.BASELINE_HOURS_TO_TARGET)
