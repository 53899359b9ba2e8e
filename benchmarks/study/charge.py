"""What a run of `time_to_accuracy.py` costs, and what its accuracy would cost without sifting.

The unit is the forward and backward of a step that does not sift, so that no number here depends on
how busy a machine is.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import mean

from sift_trainer.selection.schedule import should_sift
from study.methods import Fields

AUDIT = {"candidates": 3.0, "evaluation": 4.0}
"""Units of an audit: forward and backward of as many rows as two steps train on, three with rows of
the evaluation set, and scoring of the candidates at the exit and by the whole model, at most one
unit here."""


def sifted_steps(steps: int, sift: Fields) -> int:
    """How many of ``steps`` steps the schedule lets sift."""
    if sift.get("sift_keep_ratio", 0.5) == 1:
        return 0
    begin, end = sift["sift_warmup_steps"], sift["sift_cooldown_steps"]
    every = sift.get("sift_interval", 1)
    return sum(should_sift(step, steps, begin, end, every) for step in range(steps))


def charge(steps: int, sift: Fields, share: float, sifted: int | None = None) -> float:
    """Units that ``steps`` steps cost, with their audits.

    Args:
        share: seconds of scoring over those of forward and backward.
        sifted: how many steps sifted. Default: those of the schedule, and with a gate none.
    """
    if sifted is None:
        sifted = 0 if sift.get("sift_gate") else sifted_steps(steps, sift)
    return steps + share * sifted + audited(steps, sift)


def audited(steps: int, sift: Fields) -> float:
    """Units of the audits of ``steps`` steps."""
    every = sift.get("sift_audit_steps", 0)
    audits = -(-steps // every) if every else 0
    return AUDIT[sift.get("sift_held_out", "candidates")] * audits


def affordable_steps(budget: float, sift: Fields, share: float) -> int:
    """The most steps whose charge is within ``budget`` units."""
    most = budget + 1e-9
    return max(steps for steps in range(int(most) + 1) if charge(steps, sift, share) <= most)


class Frontier:
    """What vanilla reaches at what cost: the mean accuracy of runs at several budgets, each with a
    fully decayed learning rate, and straight lines between them.

    Args:
        accuracies: cost -> accuracies of its seeds, for two costs or more.
    """

    def __init__(self, accuracies: Mapping[float, Sequence[float]]) -> None:
        self.costs = sorted(accuracies)
        self.means = [mean(accuracies[cost]) for cost in self.costs]

    def cost_of(self, accuracy: float) -> float | None:
        """The lowest cost at which the lines reach ``accuracy``, or None."""
        if accuracy == self.means[0]:
            return self.costs[0]
        points = list(zip(self.costs, self.means, strict=True))
        for (cost, low), (dearer, high) in pairwise(points):
            if self.means[0] <= accuracy and low < accuracy <= high:
                return cost + (dearer - cost) * (accuracy - low) / (high - low)
        return None

    def ratio(self, cost: float, accuracy: float) -> str:
        """``cost`` over the cost of the same accuracy without sifting, never extrapolated: ``<`` if
        no run without sifting gets as far, ``>`` if already the cheapest gets further."""
        same = self.cost_of(accuracy)
        if same is not None:
            return f"{cost / same:.2f}"
        if accuracy < self.means[0]:
            return f">{cost / self.costs[0]:.2f}"
        return f"<{cost / self.costs[-1]:.2f}"

    def ratios(self, cost: float, accuracies: Sequence[float]) -> str:
        """The ratio of the mean accuracy, then those of the best and the worst seed."""
        of_mean = self.ratio(cost, mean(accuracies))
        if len(accuracies) == 1:
            return of_mean
        best, worst = (self.ratio(cost, pick(accuracies)) for pick in (max, min))
        return f"{of_mean} ({best} to {worst})"
