"""Tables over any runs: what they reached, what they spent, and their evaluations."""

from collections.abc import Sequence
from statistics import mean

import pandas as pd

from sift_trainer.reproduction.report.groups import Comparison, cell_of, short_name
from sift_trainer.reproduction.report.history import Run
from sift_trainer.reproduction.report.page import Table
from sift_trainer.reproduction.report.runs import LoggedRun
from sift_trainer.reproduction.report.statistics import NONE, accuracy_gain, against, ratio, spread

_PHASES = ("sampling", "forward", "backward", "optimizer", "data")


def results_table(comparison: Comparison) -> Table:
    """A row for each configuration: its last accuracy and its training time.

    Both are also compared with the baseline: the difference of the accuracies, the ratio of the
    times, and when the baseline's last accuracy was reached, as a share of the baseline's time (the
    paper's 43 h of 57 h is 0.75x).
    """
    baseline, unit = comparison.baseline, comparison.unit
    name = baseline.label if baseline else "baseline"
    rows = []
    for group in comparison.groups:
        final, pair = [run.final for run in group.runs], (group, baseline)
        times = [point.spent.total_seconds / unit.seconds for point in final]
        time_ratio = against(*pair, _time_ratio, ".2f", "x", timed=True)
        reached = against(*pair, _share_to_its_accuracy, ".2f", "x", timed=True)
        never = "never" if len(final) == 1 else "not by all seeds"
        row = {
            "run": group.label,
            "seeds": str(len(final)),
            comparison.measure: spread([point.accuracy for point in final], ".4f"),
            f"vs {name}": against(*pair, accuracy_gain, "+.4f"),
            "NSP accuracy": spread([point.nsp_accuracy for point in final], ".4f"),
            f"time ({unit.name})": spread(times, unit.form),
            f"time vs {name}": time_ratio,
            f"reached {name}'s accuracy": f"after {reached}" if reached != NONE else never,
        }
        if time_ratio == NONE:
            row[f"reached {name}'s accuracy"] = NONE
        if all(run.final.nsp_accuracy is None for run in comparison.runs):
            del row["NSP accuracy"]
        rows.append(row)
    return rows


def _time_ratio(run: Run, base: Run) -> float | None:
    return ratio(run.final.spent.total_seconds, base.final.spent.total_seconds)


def _share_to_its_accuracy(run: Run, base: Run) -> float | None:
    return ratio(run.seconds_to(base.final.accuracy), base.final.spent.total_seconds)


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


def evaluations_table(comparison: Comparison) -> Table:
    """A row for each evaluated step, with the accuracies of each configuration."""
    steps = sorted({point.spent.step for run in comparison.runs for point in run.points})
    rows = {step: {"update": f"{step:,.0f}"} for step in steps}
    for group in comparison.groups:
        accuracies = group.points.groupby("step")["accuracy"].agg(list)
        for step, row in rows.items():
            found = accuracies.get(step, [])
            row[group.label] = spread(found, ".4f") if len(found) == len(group.runs) else NONE
    return list(rows.values())


def grid_table(runs: Sequence[LoggedRun]) -> Table:
    """A row for each cell of a grid and a column for each run in it, as the paper's Tables 2 to 5.

    The last accuracy in percent, the best of each column in bold, `-` if there is no run.
    """
    accuracy = pd.Series(
        {(cell_of(run.name), short_name(run.name)): 100 * run.final.accuracy for run in runs}
    )
    grid = accuracy.unstack(sort=False)
    text = grid.map("{:.2f}".format)
    text = text.where(grid != grid.max(), "**" + text + "**").where(grid.notna(), NONE)
    head = f"{runs[0].measure} (%)"
    return [{head: cell, **row} for cell, row in text.to_dict(orient="index").items()]
