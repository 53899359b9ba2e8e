"""Values of a configuration over its seeds, as text."""

from collections.abc import Callable, Sequence
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

from sift_trainer.reproduction.report.history import Run

if TYPE_CHECKING:
    from sift_trainer.reproduction.report.groups import Group

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
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return NONE
    middle, low, high = (format(value, form) for value in (mean(known), min(known), max(known)))
    return f"{middle}{unit}" if low == high else f"{middle}{unit} ({low} to {high})"


def against(
    group: "Group | None",
    baseline: "Group | None",
    value: Callable[[Run, Run], float | None],
    form: str,
    unit: str = "",
    *,
    timed: bool = False,
) -> str:
    """The spread of `value` over pairs of a run and the baseline of its seed; over all pairs if the
    seeds differ.

    If `value` is `timed`, runs on different machines are not compared.
    """
    if group is None or baseline is None:
        return NONE
    pairs = [(run, base) for run in group.runs for base in baseline.runs]
    machines = {machine for pair in pairs for run in pair for machine in run.machines}
    if timed and len(machines) > 1:
        return NONE
    own, theirs = [run.seed for run in group.runs], [run.seed for run in baseline.runs]
    if len(set(own)) == len(own) == len(theirs) and set(own) == set(theirs) != {None}:
        pairs = [(run, base) for run, base in pairs if run.seed == base.seed]
    return spread([value(run, base) for run, base in pairs], form, unit)


def accuracy_gain(run: Run, base: Run) -> float:
    return run.final.accuracy - base.final.accuracy


def ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None
