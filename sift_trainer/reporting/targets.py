"""Time and samples to a target accuracy (Section 7.1: 43 hours of 57 to 64%)."""

from collections.abc import Callable
from dataclasses import dataclass

from sift_trainer import paper
from sift_trainer.report import Totals
from sift_trainer.reporting.groups import MASKED_LM, Comparison, Group
from sift_trainer.reporting.machines import share_a_machine
from sift_trainer.reporting.page import Table
from sift_trainer.reporting.reading import LoggedRun
from sift_trainer.reporting.statistics import NONE, against, ratio, spread, unit_of


@dataclass(frozen=True)
class Target:
    """An accuracy in [0, 1], and why it was taken."""

    accuracy: float
    why: str


def choose_target(comparison: Comparison, wanted: float | None) -> Target:
    """The one that was asked for; else the paper's if every seed of a masked-LM baseline reaches
    it; else the highest that all runs reach."""
    if wanted is not None:
        return Target(wanted, "as asked for")
    least = min(run.run.best_accuracy for run in comparison.runs)
    highest = "the highest that all runs reach"
    if comparison.measure != MASKED_LM:
        return Target(least, highest)
    baseline = comparison.baseline
    if baseline is None:
        return Target(least, f"{highest}; no baseline tells whether the paper's can be")
    reached = min(run.run.best_accuracy for run in baseline.runs)
    if reached >= paper.TARGET_ACCURACY:
        return Target(paper.TARGET_ACCURACY, "the paper's, which the baseline reaches")
    return Target(
        least,
        f"{highest}; the baseline comes to {reached:.4f}, below the paper's "
        f"{paper.TARGET_ACCURACY}",
    )


def target_table(comparison: Comparison, target: Target) -> Table:
    """A row per configuration."""
    masked = comparison.measure == MASKED_LM
    unit, size = unit_of(
        [
            seconds
            for run in comparison.runs
            if (seconds := run.run.seconds_to(target.accuracy)) is not None
        ]
    )
    rows = [
        [
            *("run", f"time ({unit})", "time ratio"),
            *(["paper: time ratio"] if masked else []),
            *("samples trained on", "samples ratio", "seeds that reach it"),
            *(["paper: to 64% (h)"] if masked else []),
        ]
    ]
    for group in comparison.groups:
        reached = [run.run.spent_at(target.accuracy) for run in group.runs]
        known = [spent for spent in reached if spent is not None]
        whole = known if len(known) == len(reached) else []
        times = [each.total_seconds / size for each in whole]
        samples = [each.backprop_samples for each in whole]
        baseline = comparison.baseline
        comparable = baseline is not None and share_a_machine([group, baseline])
        slower = _ratios(group, baseline if comparable else None, target, _seconds)
        counts = _ratios(group, baseline, target, _samples)
        hours, share = _papers(group)
        rows.append(
            [
                *(group.label, spread(times, ".2f"), spread(slower, ".2f", "x")),
                *([share] if masked else []),
                *(spread(samples, ",.0f"), spread(counts, ".2f", "x")),
                f"{len(known)} of {len(reached)}",
                *([hours] if masked else []),
            ]
        )
    return Table(
        rows,
        f"To an accuracy of {target.accuracy:.4f} ({target.why}). Read off a line between "
        "evaluations; time is that of training, sampling included, evaluation not. A run of which "
        "a seed does not reach it has no mean.",
    )


def _ratios(
    group: Group, baseline: Group | None, target: Target, value: Callable[[Totals], float]
) -> list[float]:
    def to_target(run: LoggedRun) -> float | None:
        spent = run.run.spent_at(target.accuracy)
        return None if spent is None else value(spent)

    return against(group, baseline, to_target, ratio)


def _seconds(spent: Totals) -> float:
    return spent.total_seconds


def _samples(spent: Totals) -> float:
    return spent.backprop_samples


def _papers(group: Group) -> tuple[str, str]:
    """Its hours to 64%, and their ratio to the baseline's."""
    hours: float | None = None
    if group.is_baseline:
        hours = paper.BASELINE_HOURS_TO_TARGET
    elif group.is_the_papers and not group.is_last_exit:
        hours = paper.HOURS_TO_TARGET.get(group.sift("criterion"), {}).get(group.exit_layer or 0)
    if hours is None:
        return NONE, NONE
    return f"{hours:.0f}", f"{hours / paper.BASELINE_HOURS_TO_TARGET:.2f}x"
