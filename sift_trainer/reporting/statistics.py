"""Means over seeds with their spread, in words."""

from collections.abc import Callable, Sequence
from statistics import mean

from sift_trainer.reporting.groups import Group
from sift_trainer.reporting.reading import LoggedRun

NONE = "-"

_UNITS = {"h": 3600.0, "min": 60.0, "s": 1.0}


def spread(values: Sequence[float], form: str, unit: str = "") -> str:
    """The mean, and behind it the lowest and highest where they differ:
    ``0.1300 (0.1292 to 0.1311)``, or with a unit ``0.75x (0.74 to 0.77)``."""
    if not values:
        return NONE
    middle, low, high = (format(value, form) for value in (mean(values), min(values), max(values)))
    return f"{middle}{unit}" if low == high else f"{middle}{unit} ({low} to {high})"


def against(
    group: Group,
    baseline: Group | None,
    value: Callable[[LoggedRun], float | None],
    combine: Callable[[float, float], float],
) -> list[float]:
    """What each seed's value is to the baseline's: to that of the same seed where both have the
    same ones, else to the baseline's mean. Nothing where a value is not there."""
    if baseline is None:
        return []
    own, base = [value(run) for run in group.runs], [value(run) for run in baseline.runs]
    known = [number for number in base if number is not None]
    if None in own or len(known) < len(base) or not all(known):
        return []
    seeds, theirs = [run.seed for run in group.runs], [run.seed for run in baseline.runs]
    paired = None not in seeds and len(set(seeds)) == len(seeds) and set(seeds) == set(theirs)
    by_seed = dict(zip(theirs, known, strict=True)) if paired else {}
    middle = mean(known)
    return [
        combine(number, by_seed.get(seed, middle))
        for seed, number in zip(seeds, own, strict=True)
        if number is not None
    ]


def ratio(value: float, base: float) -> float:
    return value / base


def difference(value: float, base: float) -> float:
    return value - base


def unit_of(seconds: Sequence[float]) -> tuple[str, float]:
    """The unit in which the longest is read best, and its seconds: h, min or s."""
    longest = max(seconds, default=0.0)
    return next(
        ((unit, size) for unit, size in _UNITS.items() if longest >= 2 * size), ("s", _UNITS["s"])
    )
