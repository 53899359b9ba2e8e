"""What the numbers of a comparison do not show, in sentences."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from sift_trainer.reporting.groups import Comparison, differing
from sift_trainer.reporting.runs import LoggedRun
from sift_trainer.reporting.setting import setting_table
from sift_trainer.reporting.targets import Target

_DECAYED = 0.01
"""The share of its highest value below which a learning rate counts as decayed. The last step of a
short linear schedule uses a rate of one step's height, which counts too."""


def caveats(comparison: Comparison, target: Target | None = None) -> list[str]:
    """First what puts the results in question, then the times, then details.

    Without a target, none about the time and samples to it.
    """
    return [
        *_results(comparison),
        *_rates(comparison.runs),
        *_times(comparison),
        *_comparability(comparison),
        *([] if target is None else _first_evaluation(comparison, target)),
        *_scores(comparison.runs),
    ]


def shared_caveats(comparisons: Sequence[Comparison]) -> list[str]:
    """Of a table over several comparisons: what holds for all, then what holds for each."""
    each = {comparison.name: caveats(comparison) for comparison in comparisons}
    common = [text for text in next(iter(each.values())) if all(text in of for of in each.values())]
    own = [f"{name}: {text}" for name, of in each.items() for text in of if text not in common]
    return [*common, *own]


def machines(comparison: Comparison) -> Mapping[str, list[str]]:
    """Machine -> names of the runs that were on it."""
    found: dict[str, list[str]] = {}
    for run in comparison.runs:
        for machine in run.machines:
            found.setdefault(machine, []).append(run.name)
    return found


def _results(comparison: Comparison) -> Iterator[str]:
    if any(row["paper"] != row["here"] for row in setting_table(comparison)):
        yield (
            "These runs are smaller or larger than the paper's. Its numbers are shown for "
            "orientation: they neither confirm nor contradict these runs."
        )
    single = [group.label for group in comparison.groups if len(group.runs) == 1]
    if single:
        yield (
            f"A single seed: {', '.join(single)}. Differences may be as large as those between "
            "seeds, which one seed does not show."
        )
    for group in comparison.groups:
        seeds = {run.seed for run in group.runs}
        if 1 < len(group.runs) > len(seeds):
            yield (
                f"{group.label}: {len(group.runs)} runs with {len(seeds)} seeds. Runs with the "
                "same seed spread less than seeds do."
            )


def _rates(runs: Sequence[LoggedRun]) -> Iterator[str]:
    unknown = [run.name for run in runs if not run.rates]
    if unknown:
        yield f"No learning rate was logged, so it may not be decayed: {_list(unknown)}."
    high: list[str] = []
    early: list[str] = []
    for run in runs:
        share, last = _undecayed(run), run.run.final.spent.step
        if share is not None:
            step = run.rates[-1][0]
            text = f"{run.name} ({share:.0%} of its peak at update {step:,.0f} of {last:,.0f})"
            (high if step == last else early).append(text)
    if high:
        yield (
            "The learning rate was not fully decayed, so these runs end below what they could "
            f"reach, and gains over them may vanish: {_list(high)}."
        )
    if early:
        yield (
            "The learning rate was last logged before the end, so it may not be fully decayed: "
            f"{_list(early)}."
        )


def _undecayed(run: LoggedRun) -> float | None:
    """The last logged rate as a share of the highest; None if it is near zero or unknown."""
    peak = max((rate for _, rate in run.rates), default=0.0)
    if not peak:
        return None
    share = run.rates[-1][1] / peak
    return share if share > max(_DECAYED, 2 / run.run.final.spent.step) else None


def _times(comparison: Comparison) -> Iterator[str]:
    found = machines(comparison)
    if len(found) > 1:
        each = "; ".join(f"{machine}: {_list(names)}" for machine, names in found.items())
        yield f"Machines differ, and times on different machines are not compared. {each}."
    unknown = [run.name for run in comparison.runs if not run.machines]
    if unknown:
        yield f"No machine was logged, so times may not compare: {_list(unknown)}."


def _comparability(comparison: Comparison) -> Iterator[str]:
    baseline = comparison.baseline
    if baseline is None:
        near = ""
        if comparison.others:
            near = f" The nearest one differs in {_list(comparison.others)}."
        yield f"There is no baseline that differs in sifting alone.{near}"
    else:
        more = [group.label for group in comparison.groups[1:] if group.is_baseline]
        if more:
            yield f"Several runs do not sift: {baseline.label} is the baseline, not {_list(more)}."
    unknown = [run.name for run in comparison.runs if run.setting("training") is None]
    if unknown:
        yield (
            "Settings were not logged, so runs are identified by name and compared within their "
            f"folder: {_list(unknown)}."
        )
    for run in comparison.runs:
        changed = {
            name for before, after in pairwise(run.starts) for name in differing(before, after)
        }
        if changed:
            yield f"{run.name} was resumed with another {_list(sorted(changed))}."


def _first_evaluation(comparison: Comparison, target: Target) -> Iterator[str]:
    early = [run.name for run in comparison.runs if run.run.points[0].accuracy >= target.accuracy]
    if early:
        yield (
            "The target accuracy was reached before the first evaluation, so time and samples are "
            f"at most those shown: {_list(early)}."
        )


def _scores(runs: Sequence[LoggedRun]) -> Iterator[str]:
    bad = [f"{run.name} ({run.nonfinite_scores:,})" for run in runs if run.nonfinite_scores]
    if bad:
        yield f"Sample scores that were not finite: {_list(bad)}."


def _list(names: Sequence[str], most: int = 8) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
