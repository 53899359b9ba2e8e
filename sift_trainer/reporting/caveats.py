"""What the numbers of a comparison cannot carry, in sentences."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from sift_trainer.reporting.groups import Comparison, differing
from sift_trainer.reporting.machines import distinct, machines_of
from sift_trainer.reporting.reading import LoggedRun
from sift_trainer.reporting.setting import is_the_papers, setting_table
from sift_trainer.reporting.targets import Target

_DECAYED = 0.01
"""A rate that is this share of its highest counts as decayed; the last step of a short linear
schedule, which uses a rate of one step's height, does too."""


def caveats(comparison: Comparison, target: Target | None = None) -> list[str]:
    """In the order of what they put in question: the results, the seconds, the details.

    Without a target none that concerns time and samples to it.
    """
    return [
        *_setting(comparison),
        *_seeds(comparison),
        *_rates(comparison.runs),
        *_machines(comparison),
        *_baseline(comparison),
        *_settings(comparison.runs),
        *([] if target is None else _first_evaluation(comparison, target)),
        *_scores(comparison.runs),
    ]


def shared_caveats(comparisons: Sequence[Comparison]) -> list[str]:
    """Of a table over several comparisons: what holds for all of them, then what is in each."""
    each = {comparison.name: caveats(comparison) for comparison in comparisons}
    common = [text for text in next(iter(each.values())) if all(text in of for of in each.values())]
    return [
        *common,
        *(f"{name}: {text}" for name, of in each.items() for text in of if text not in common),
    ]


def _setting(comparison: Comparison) -> Iterator[str]:
    if setting_table(comparison) is not None and not is_the_papers(comparison):
        yield (
            "These runs are not of the paper's size, so its numbers stand beside them for "
            "orientation, and neither confirm nor contradict them."
        )


def _seeds(comparison: Comparison) -> Iterator[str]:
    single = [group.label for group in comparison.groups if len(group.runs) == 1]
    if single:
        yield (
            f"A single seed: {', '.join(single)}. Differences may be of the size that seeds make, "
            "which one seed does not show."
        )
    for group in comparison.groups:
        seeds = [run.seed for run in group.runs]
        if len(seeds) > 1 and len(set(seeds)) < len(seeds):
            yield (
                f"{group.label}: {len(seeds)} runs of {len(set(seeds))} seeds; those of one seed "
                "spread less than seeds do."
            )


def _rates(runs: Sequence[LoggedRun]) -> Iterator[str]:
    unknown = [run.name for run in runs if not run.rates]
    if unknown:
        yield f"No learning rate was logged, so nothing says if it was decayed: {_list(unknown)}."
    high: list[str] = []
    early: list[str] = []
    for run in runs:
        share = _undecayed(run)
        if share is not None:
            step, of = run.rates[-1][0], run.run.final.spent.step
            text = f"{run.name} ({share:.0%} of its peak at update {step:,.0f} of {of:,.0f})"
            (high if step == of else early).append(text)
    if high:
        yield (
            "The learning rate was not fully decayed, so these runs end below what they could "
            f"reach, and gains over them may vanish: {_list(high)}."
        )
    if early:
        yield (
            "The learning rate was last logged before the end, so nothing says if it was fully "
            f"decayed: {_list(early)}."
        )


def _undecayed(run: LoggedRun) -> float | None:
    """The last logged rate as a share of the highest, if that is not near zero."""
    if not run.rates:
        return None
    peak = max(rate for _, rate in run.rates)
    share = run.rates[-1][1] / peak if peak > 0 else 1.0
    steps = run.run.final.spent.step
    return share if share > max(_DECAYED, 2 / steps) else None


def _machines(comparison: Comparison) -> Iterator[str]:
    found = distinct(comparison)
    if len(found) > 1:
        each = "; ".join(f"{machine}: {_list(names)}" for machine, names in found.items())
        yield f"Machines differ, and times of one are not held to those of another. {each}."
    unknown = [run.name for run in comparison.runs if not machines_of(run)]
    if unknown:
        yield f"No machine was logged, so nothing says if times compare: {_list(unknown)}."


def _baseline(comparison: Comparison) -> Iterator[str]:
    baseline = comparison.baseline
    if baseline is None:
        near = ""
        if comparison.others:
            near = f" The nearest one differs in {_list(comparison.others)}."
        yield f"There is no baseline that differs in sifting alone.{near}"
        return
    more = [group.label for group in comparison.groups[1:] if group.is_baseline]
    if more:
        yield f"Of the runs without sifting {baseline.label} is the baseline, not {_list(more)}."


def _settings(runs: Sequence[LoggedRun]) -> Iterator[str]:
    unknown = [run.name for run in runs if run.setting("training") is None]
    if unknown:
        yield (
            "Settings were not logged, so runs are told apart by their names and compared within "
            f"their folder: {_list(unknown)}."
        )
    for run in runs:
        changed = {
            name for before, after in pairwise(run.starts) for name in differing(before, after)
        }
        if changed:
            yield f"{run.name} was resumed with another {_list(sorted(changed))}."


def _first_evaluation(comparison: Comparison, target: Target) -> Iterator[str]:
    early = [run.name for run in comparison.runs if run.run.points[0].accuracy >= target.accuracy]
    if early:
        yield (
            f"The target accuracy was there at the first evaluation already, so time and samples "
            f"are at most those shown: {_list(early)}."
        )


def _scores(runs: Sequence[LoggedRun]) -> Iterator[str]:
    bad = [f"{run.name} ({run.nonfinite_scores:,})" for run in runs if run.nonfinite_scores]
    if bad:
        yield f"Sample scores that were not finite: {_list(bad)}."


def _list(names: Sequence[str], most: int = 8) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
