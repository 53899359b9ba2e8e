"""Values of a configuration over its seeds, as text."""

from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

NONE = "-"


class Unit(NamedTuple):
    """A unit of time, its length in seconds, and the format of numbers in it."""

    name: str
    seconds: float
    form: str


def unit_of(seconds: Sequence[float]) -> Unit:
    """The unit that suits the longest of these times."""
    longest = max(seconds, default=0.0)
    if longest >= 2 * 3600:
        return Unit("h", 3600.0, ".2f")
    return Unit("min", 60.0, ".2f") if longest >= 600 else Unit("s", 1.0, ".1f")


def spread(values: Sequence[float | None], form: str, unit: str = "") -> str:
    """The mean, and in brackets the lowest and the highest if they differ; `NONE` if a value is
    missing.

    Examples: ``0.1300 (0.1292 to 0.1311)``, with a unit ``0.75x (0.74 to 0.77)``.
    """
    if mean_of_all(values) is None:
        return NONE
    known = [value for value in values if value is not None]
    middle, low, high = (format(value, form) for value in (mean(known), min(known), max(known)))
    return f"{middle}{unit}" if low == high else f"{middle}{unit} ({low} to {high})"


def mean_of_all(values: Sequence[float | None]) -> float | None:
    """None without values, or if one of them is missing."""
    known = [value for value in values if value is not None]
    return mean(known) if known and len(known) == len(values) else None


def ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None
