"""Means over batches, ratios of means, and medians over rounds, with intervals."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch

_RESAMPLES = 2000
_TAILS = torch.tensor([0.025, 0.975], dtype=torch.float64)


@dataclass(frozen=True)
class Estimate:
    """A number with an interval.

    Attributes:
        value: mean or ratio of means over all batches; for seconds, the median over rounds.
        low: lower end of the 95% bootstrap interval over batches; for seconds, the lowest round.
        high: upper end; for seconds, the highest round.
    """

    value: float
    low: float
    high: float

    def __truediv__(self, divisor: float) -> "Estimate":
        return Estimate(self.value / divisor, self.low / divisor, self.high / divisor)


def median_of_rounds(values: Sequence[float]) -> Estimate:
    """The median, the lowest and the highest."""
    return Estimate(statistics.median(values), min(values), max(values))


def mean_over_batches(values: Sequence[float]) -> Estimate | None:
    """Mean of one number for each batch; None for fewer than two."""
    return ratio_of_means(values, [1.0] * len(values))


def ratio_of_means(above: Sequence[float], below: Sequence[float]) -> Estimate | None:
    """Mean of ``above`` over mean of ``below``, one number for each of the same batches.

    None for fewer than two batches, and if the interval of the mean below reaches 0: such a ratio
    says nothing.
    """
    if len(above) < 2:
        return None
    numbers = torch.tensor([list(above), list(below)], dtype=torch.float64)
    draw = torch.Generator().manual_seed(0)  # equal numbers get equal intervals
    chosen = torch.randint(len(above), (_RESAMPLES, len(above)), generator=draw)
    means = numbers[:, chosen].mean(dim=2)
    if not means[1].quantile(_TAILS[0]) > 0:
        return None
    # Resamples whose mean below is not above 0 are few and fall into the tails.
    low, high = (means[0] / means[1]).quantile(_TAILS).tolist()
    whole = numbers.mean(dim=1)
    return Estimate(float(whole[0] / whole[1]), low, high)
