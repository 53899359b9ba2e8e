"""What every run came to, at which evaluations, and where its time went."""

from collections.abc import Callable, Sequence
from statistics import mean

from sift_trainer.report import Run, Totals
from sift_trainer.reporting.groups import Comparison
from sift_trainer.reporting.page import Table
from sift_trainer.reporting.statistics import NONE, against, difference, spread, unit_of


def totals_table(comparison: Comparison) -> Table:
    """A row per configuration at its end: accuracy, time, and where that went."""
    runs = [run.run for run in comparison.runs]
    unit, size = unit_of([run.final.spent.total_seconds for run in runs])
    phases = ("sampling", "forward", "backward", "optimizer", "data")
    pairs = any(run.final.nsp_accuracy is not None for run in runs)
    rows = [
        [
            *("run", "seeds", "updates", comparison.measure, "to baseline"),
            *(["NSP accuracy"] if pairs else []),
            *(f"time ({unit})", *(f"{phase} ({unit})" for phase in phases)),
            *("samples trained on", "candidates"),
        ]
    ]
    for group in comparison.groups:
        each = [run.run for run in group.runs]
        final = [run.final for run in each]
        nsp = [point.nsp_accuracy for point in final if point.nsp_accuracy is not None]
        gains = against(group, comparison.baseline, lambda run: run.run.final.accuracy, difference)
        rows.append(
            [
                *(group.label, str(len(each)), _mean(each, lambda spent: spent.step)),
                *(spread([point.accuracy for point in final], ".4f"), spread(gains, "+.4f")),
                *([spread(nsp, ".4f")] if pairs else []),
                spread([point.spent.total_seconds / size for point in final], ".2f"),
                *(
                    f"{mean(run.final.spent.seconds[phase] for run in each) / size:.2f}"
                    for phase in phases
                ),
                _mean(each, lambda spent: spent.backprop_samples),
                _mean(each, lambda spent: spent.candidates),
            ]
        )
    return Table(rows)


def evaluations_table(comparison: Comparison) -> Table:
    """A row per step that was evaluated, with the accuracies of each configuration."""
    groups = comparison.groups
    steps = sorted({point.spent.step for run in comparison.runs for point in run.run.points})
    rows = [["update", *(group.label for group in groups)]]
    for step in steps:
        cells = []
        for group in groups:
            found = [
                point.accuracy
                for run in group.runs
                for point in run.run.points
                if point.spent.step == step
            ]
            cells.append(spread(found, ".4f") if len(found) == len(group.runs) else NONE)
        rows.append([f"{step:,.0f}", *cells])
    return Table(rows)


def _mean(runs: Sequence[Run], value: Callable[[Totals], float]) -> str:
    return f"{mean(value(run.final.spent) for run in runs):,.0f}"
