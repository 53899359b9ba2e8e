"""Tables over any runs: what they reached, what they spent, and when they reached a target."""

from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

from sift_trainer.reproduction import paper
from sift_trainer.reproduction.report.groups import (
    MASKED_LM,
    Comparison,
    Group,
    cell_of,
    short_name,
)
from sift_trainer.reproduction.report.history import Run
from sift_trainer.reproduction.report.page import Table
from sift_trainer.reproduction.report.statistics import NONE, ratio, spread, unit_of

_PHASES = ("sampling", "forward", "backward", "optimizer", "data")


class Target(NamedTuple):
    """An accuracy in [0, 1], and why it was chosen."""

    accuracy: float
    why: str


def accuracy_gain(run: Run, base: Run) -> float:
    return run.final.accuracy - base.final.accuracy


def results_table(comparison: Comparison) -> Table:
    """A row for each configuration: its last accuracy and its training time.

    Both are also compared with the baseline: the difference of the accuracies, the ratio of the
    times, and when the baseline's last accuracy was reached, as a share of the baseline's time (the
    paper's 43 h of 57 h is 0.75x).
    """

    def time_ratio(run: Run, base: Run) -> float | None:
        return ratio(run.final.spent.total_seconds, base.final.spent.total_seconds)

    def share_of_time(run: Run, base: Run) -> float | None:
        return ratio(run.seconds_to(base.final.accuracy), base.final.spent.total_seconds)

    unit = comparison.unit
    name = comparison.baseline.label if comparison.baseline else "baseline"
    rows = []
    for group in comparison.groups:
        final = [run.final for run in group.runs]
        times = [point.spent.total_seconds / unit.seconds for point in final]
        against = comparison.against(group, time_ratio, ".2f", "x", timed=True)
        reached = comparison.against(group, share_of_time, ".2f", "x", timed=True)
        never = "never" if len(final) == 1 else "not by all seeds"
        if against != NONE:
            reached = f"after {reached}" if reached != NONE else never
        row = {
            "run": group.label,
            "seeds": str(len(final)),
            comparison.measure: spread([point.accuracy for point in final], ".4f"),
            f"vs {name}": comparison.against(group, accuracy_gain, "+.4f"),
            "NSP accuracy": spread([point.nsp_accuracy for point in final], ".4f"),
            f"time ({unit.name})": spread(times, unit.form),
            f"time vs {name}": against,
            f"reached {name}'s accuracy": reached,
        }
        if all(run.final.nsp_accuracy is None for run in comparison.runs):
            del row["NSP accuracy"]
        rows.append(row)
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


def grid_table(runs: Sequence[Run]) -> Table:
    """A row for each cell of a grid and a column for each run in it, as the paper's Tables 2 to 5.

    The last accuracy in percent, the best of each column in bold, `-` if there is no run.
    """
    accuracy = {(cell_of(run.name), short_name(run.name)): run.final.accuracy for run in runs}
    columns = list(dict.fromkeys(name for _, name in accuracy))
    rows = []
    for cell in dict.fromkeys(cell for cell, _ in accuracy):
        row = {f"{runs[0].measure} (%)": cell}
        for name in columns:
            best = max(value for (_, other), value in accuracy.items() if other == name)
            value = accuracy.get((cell, name))
            row[name] = NONE if value is None else f"{100 * value:.2f}"
            row[name] = f"**{row[name]}**" if value == best else row[name]
        rows.append(row)
    return rows


def choose_target(comparison: Comparison, wanted: float | None) -> Target:
    """The wanted one; else the paper's, if every seed of a masked-LM baseline reaches it; else the
    highest that all runs reach."""
    if wanted is not None:
        return Target(wanted, "as requested")
    if comparison.measure == MASKED_LM and comparison.baseline is not None:
        reached = min(_best(comparison.baseline.runs))
        if reached >= paper.TARGET_ACCURACY:
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
            "time ratio": comparison.against(
                group, lambda run, base: ratio(seconds(run), seconds(base)), ".2f", "x", timed=True
            ),
            "paper: time ratio": spread([_papers_ratio(group)], ".2f", "x"),
            "samples trained on": spread([samples(run) for run in group.runs], ",.0f"),
            "samples ratio": comparison.against(
                group, lambda run, base: ratio(samples(run), samples(base)), ".2f", "x"
            ),
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
    """The paper's hours to 64% over the baseline's; None if it does not state them."""
    if group.is_baseline:
        return 1.0
    if not group.is_the_papers or group.exit_layer == group.depth:
        return None
    hours = paper.HOURS_TO_TARGET.get(group.sift("criterion"), {}).get(group.exit_layer or 0)
    return ratio(hours, paper.BASELINE_HOURS_TO_TARGET)
