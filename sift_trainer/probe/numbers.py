"""From what was measured, batch by batch, to the figures of one choice. Pure functions."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sift_trainer.measuring.agreement import comparable, compare_with_losses, overlap, spearman
from sift_trainer.measuring.gradients import UpdateDescent, dropped_descent
from sift_trainer.probe.results import Descent, Estimate, Figures
from sift_trainer.scoring.criteria import CRITERIA

_RESAMPLES = 2000
_TAILS = torch.tensor([0.025, 0.975], dtype=torch.float64)


@dataclass
class Measured:
    """What each batch gave for one choice, or for random rows."""

    scores: list[Tensor] = field(default_factory=list)  # (B,)
    kept: list[Tensor] = field(default_factory=list)  # row numbers (k,) of the largest scores
    descents: list[UpdateDescent] = field(default_factory=list)

    def since(self, batch: int) -> "Measured":
        """The scores and kept rows of the batches from this number on."""
        return Measured(self.scores[batch:], self.kept[batch:])


def median_of_rounds(values: Sequence[float]) -> Estimate:
    return Estimate(statistics.median(values), min(values), max(values))


def mean_over_batches(values: Sequence[float]) -> Estimate | None:
    return ratio_of_means(values, [1.0] * len(values))


def ratio_of_means(above: Sequence[float], below: Sequence[float]) -> Estimate | None:
    """Mean of ``above`` over mean of ``below``, one number for each of the same batches; None for
    fewer than two batches, and if the interval of the mean below reaches 0."""
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


def with_comparison(figures: Figures, found: Measured, exact: Measured) -> Figures:
    overlaps = [overlap(*rows) for rows in zip(found.kept, exact.kept, strict=True)]
    pairs = [
        (losses[both], scores[both])
        for losses, scores in zip(exact.scores, found.scores, strict=True)
        for both in [comparable(losses, scores)]
    ]
    correlations = [spearman(*each) for each in pairs]
    losses, scores = (torch.cat(each) for each in zip(*pairs, strict=True))
    compared = compare_with_losses(losses, scores, CRITERIA[figures.choice.criterion].is_loss)
    return replace(
        figures,
        overlap=mean_over_batches(overlaps),
        spearman=mean_over_batches([each for each in correlations if each is not None]),
        agreement=compared.order,
        noise=compared.noise,
        approximate_loss_ratio=compared.approximate_loss_ratio,
    )


def descent_figures(
    kept: Sequence[UpdateDescent],
    random: Sequence[UpdateDescent],
    keep_ratio: float,
    scoring_share: float,
    step_seconds: float,
) -> Descent | None:
    by_kept, by_random = ([each.plain for each in side] for side in (kept, random))
    kept_mean, random_mean = mean_over_batches(by_kept), mean_over_batches(by_random)
    if kept_mean is None or random_mean is None:
        return None
    price = 1 + scoring_share
    equal = ratio_of_means(
        [each.at_equal_length for each in kept], [each.at_equal_length for each in random]
    )
    ratio = ratio_of_means(by_kept, by_random)
    return Descent(
        kept=kept_mean / (step_seconds * price),
        random=random_mean / step_seconds,
        ratio=ratio and ratio / price,
        ratio_at_equal_length=equal and equal / price,
        dropped_ratio=ratio and _dropped_ratio(ratio, keep_ratio),
    )


def _dropped_ratio(kept: Estimate, keep_ratio: float) -> Estimate:
    value, high, low = (
        dropped_descent(each, 1.0, keep_ratio) for each in (kept.value, kept.low, kept.high)
    )
    return Estimate(value, low, high)
