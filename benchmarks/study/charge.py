"""What a run of `time_to_accuracy.py` is charged, and what its accuracy would cost without sifting.

The unit is the forward and backward of a step that does not sift, so that no number here depends on
how busy a machine is.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean
from typing import Any

from sift_trainer.arguments import SiftArguments
from sift_trainer.selection.schedule import should_sift

_DEFAULTS = SiftArguments()

AUDIT = {"candidates": 3.0, "evaluation": 4.0}
"""Units of an audit: forward and backward of as many rows as two steps train on, three with rows of
the evaluation set, and scoring of the candidates at the exit and by the whole model, at most one
unit here."""


@dataclass(frozen=True)
class Ratio:
    """The cost of a method over the cost at which no sifting gets as far.

    Attributes:
        value: the ratio, or the nearest that is known.
        bound: ``=``; ``<`` where no run without sifting gets as far, however dear; ``>`` where
            already the cheapest gets further.
    """

    value: float
    bound: str = "="

    @property
    def saves(self) -> bool:
        """Whether the method costs less."""
        return self.value < 1 or (self.value == 1 and self.bound == "<")

    def __str__(self) -> str:
        return f"{'' if self.bound == '=' else self.bound}{self.value:.2f}"


def sifted_steps(steps: int, sift: Mapping[str, Any], upto: int | None = None) -> int:
    """How many of the first ``upto`` of ``steps`` steps sift, by default of all."""
    if sift.get("sift_keep_ratio", 0.5) == 1:
        return 0
    names = "sift_warmup_steps", "sift_cooldown_steps", "sift_interval"
    schedule = [sift.get(name, getattr(_DEFAULTS, name)) for name in names]
    taken = range(steps if upto is None else upto)
    return sum(should_sift(step, steps, *schedule) for step in taken)


def charge(steps: int, sift: Mapping[str, Any], share: float, upto: int | None = None) -> float:
    """Units that the first ``upto`` of ``steps`` steps cost, by default all of them, if all that
    the schedule lets sift do, and with a gate none.

    Args:
        share: seconds of scoring over those of forward and backward.
    """
    taken = steps if upto is None else upto
    sifted = 0 if sift.get("sift_gate") else sifted_steps(steps, sift, upto)
    return charged(taken, sift, share, sifted)


def charged(steps: int, sift: Mapping[str, Any], share: float, sifted: int) -> float:
    """Units of ``steps`` steps, of which ``sifted`` sifted, with their audits."""
    return steps + share * sifted + audited(steps, sift)


def audited(steps: int, sift: Mapping[str, Any]) -> float:
    """Units of the audits of ``steps`` steps."""
    every = sift.get("sift_audit_steps", 0)
    audits = -(-steps // every) if every else 0
    return AUDIT[sift.get("sift_held_out", "candidates")] * audits


def affordable_steps(budget: float, sift: Mapping[str, Any], share: float) -> int:
    """The most steps whose charge is within ``budget`` units.

    Raises:
        ValueError: for a budget of less than one step.
    """
    for steps in range(int(budget + 1e-9), 0, -1):
        if charge(steps, sift, share) <= budget + 1e-9:
            return steps
    raise ValueError(f"budget={budget:g} units pay for no step; give {1 + share:g} or more")


class Frontier:
    """What no sifting reaches at what cost: the mean accuracy of runs at several budgets, each
    decayed fully, and straight lines between them.

    Args:
        accuracies: budget -> accuracies of its seeds.

    Raises:
        ValueError: for fewer than two budgets, which have nothing between them.
    """

    def __init__(self, accuracies: Mapping[float, Sequence[float]]) -> None:
        if len(accuracies) < 2:
            raise ValueError(
                f"budgets={sorted(accuracies)} of runs without sifting leave nothing to "
                "interpolate in; run two or more, such as 0.64 and 1.0"
            )
        self.costs = sorted(accuracies)
        self.means = [mean(accuracies[cost]) for cost in self.costs]

    def cost_of(self, accuracy: float) -> float | None:
        """The lowest cost at which the lines reach ``accuracy``; None where that is outside."""
        if accuracy < self.means[0]:
            return None
        if accuracy == self.means[0]:
            return self.costs[0]
        points = list(zip(self.costs, self.means, strict=True))
        for (cost, low), (dearer, high) in pairwise(points):
            if low < accuracy <= high:
                return cost + (dearer - cost) * (accuracy - low) / (high - low)
        return None

    def accuracy_at(self, cost: float) -> float | None:
        """Mean accuracy at a cost within the budgets, None outside."""
        if not self.costs[0] <= cost <= self.costs[-1]:
            return None
        right = max(1, bisect_left(self.costs, cost))
        (a, low), (b, high) = (
            (self.costs[index], self.means[index]) for index in (right - 1, right)
        )
        return low + (high - low) * (cost - a) / (b - a)

    def ratio(self, cost: float, accuracy: float) -> Ratio:
        """``cost`` over the cost of the same accuracy without sifting, never extrapolated."""
        same = self.cost_of(accuracy)
        if same is not None:
            return Ratio(cost / same)
        if accuracy < self.means[0]:
            return Ratio(cost / self.costs[0], ">")
        return Ratio(cost / self.costs[-1], "<")
