"""What the numbers of a comparison do not show, in sentences."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from sift_trainer.reproduction.report.groups import Comparison, differing
from sift_trainer.reproduction.report.runs import LoggedRun
from sift_trainer.reproduction.report.setting import setting_table
from sift_trainer.reproduction.report.targets import Target

_DECAYED = 0.01
"""The share of its highest value below which a learning rate counts as decayed. The last step of a
short linear schedule uses a rate of one step's height, which counts too."""


def caveats(comparison: Comparison, target: Target | None = None) -> list[str]:
    """First what puts the results in question, then the times, then details.

    Without a target, none about the time and samples to it.
    """
    groups, runs = comparison.groups, comparison.runs
    if any(row["paper"] != row["here"] for row in setting_table(comparison)):
        size = "These runs are smaller or larger than the paper's. Its numbers are shown for"
        size = f"{size} orientation: they neither confirm nor contradict these runs."
    else:
        size = ""
    several = [
        f"{group.label} ({len(group.runs)} runs, {len(seeds)} seeds)"
        for group in groups
        if 1 < len(group.runs) > len(seeds := {run.seed for run in group.runs})
    ]
    named = {
        "A single seed, and seeds may differ as much as these runs": [
            group.label for group in groups if len(group.runs) == 1
        ],
        "Runs with the same seed, which spread less than seeds do": several,
        **_rates(runs),
        "Machines differ, and times on different machines are not compared": [
            f"{machine} ({_some(names)})" for machine, names in machines(comparison).items()
        ]
        if len(machines(comparison)) > 1
        else [],
        "No machine was logged, so times may not compare": [
            run.name for run in runs if not run.machines
        ],
        "There is no baseline that differs in sifting alone; the nearest one differs in": (
            [] if comparison.baseline else comparison.others or ["everything"]
        ),
        f"Several configurations do not sift. {groups[0].label} is the baseline, others are": [
            group.label for group in groups[1:] if group.is_baseline
        ],
        "Settings were not logged; runs are identified by name and compared within their folder": [
            run.name for run in runs if run.setting("training") is None
        ],
        "Settings changed when the run was resumed": list(_changed(runs)),
        "The target was reached before the first evaluation; time and samples are at most those"
        " shown": [
            run.name for run in runs if target and run.points[0].accuracy >= target.accuracy
        ],
        "Sample scores were not finite": [
            f"{run.name} ({run.nonfinite_scores:,})" for run in runs if run.nonfinite_scores
        ],
    }
    listed = [f"{sentence}: {_some(names)}." for sentence, names in named.items() if names]
    return [size, *listed] if size else listed


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


def _rates(runs: Sequence[LoggedRun]) -> dict[str, list[str]]:
    """The runs whose learning rate was not decayed near zero, as far as their logs say."""
    unknown: list[str] = []
    high: list[str] = []
    early: list[str] = []
    for run in runs:
        peak, end = max((rate for _, rate in run.rates), default=0.0), run.final.spent.step
        if not peak:
            unknown.append(run.name)
            continue
        step, rate = run.rates[-1]
        if rate / peak > max(_DECAYED, 2 / end):
            text = f"{run.name} ({rate / peak:.0%} of its peak at update {step:,.0f} of {end:,.0f})"
            (high if step == end else early).append(text)
    return {
        "No learning rate was logged, so it may not be decayed": unknown,
        "The learning rate was not fully decayed, so these runs end below what they could reach,"
        " and gains over them may vanish": high,
        "The learning rate was last logged before the end, so it may not be decayed": early,
    }


def _changed(runs: Sequence[LoggedRun]) -> Iterator[str]:
    for run in runs:
        for before, after in pairwise(run.starts):
            yield from (f"{name} of {run.name}" for name in differing(before, after))


def _some(names: Sequence[str], most: int = 8) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
