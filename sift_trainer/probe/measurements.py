"""Means over batches, and ratios of two, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

_RESAMPLES = 2000
_TAILS = torch.tensor([0.025, 0.975], dtype=torch.float64)


@dataclass(frozen=True)
class Estimate:
    """A mean, or a ratio of two, over batches.

    Attributes:
        value: over all batches.
        low: lower end of its 95% interval, by bootstrap over the batches (percentiles).
        high: upper end.
    """

    value: float
    low: float
    high: float


def mean_over_batches(values: Sequence[float]) -> Estimate | None:
    """Mean of one number for each batch; None for fewer than two."""
    return ratio_of_means(values, [1.0] * len(values))


def ratio_of_means(above: Sequence[float], below: Sequence[float]) -> Estimate | None:
    """Mean of ``above`` over mean of ``below``, whose numbers are of the same batches.

    None for fewer than two batches, and where the interval of the mean below is not all above 0: a
    ratio to what may be nothing says nothing.
    """
    if len(above) < 2:
        return None
    numbers = torch.tensor([list(above), list(below)], dtype=torch.float64)
    # Always the same resamples: of the same numbers, the same interval.
    draw = torch.Generator().manual_seed(0)
    chosen = torch.randint(len(above), (_RESAMPLES, len(above)), generator=draw)
    means = numbers[:, chosen].mean(dim=2)
    if not means[1].quantile(_TAILS[0]) > 0:
        return None
    # A resample whose mean is not above 0 counts as it is: it is in the tail that is cut off.
    low, high = (means[0] / means[1]).quantile(_TAILS).tolist()
    whole = numbers.mean(dim=1)
    return Estimate(float(whole[0] / whole[1]), low, high)
