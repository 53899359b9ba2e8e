"""From what was measured, batch by batch, to the figures of one choice. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sift_trainer.measuring import theory
from sift_trainer.measuring.agreement import (
    Notes,
    both_positive,
    comparable,
    compare_with_losses,
    number_or_note,
    overlap,
    spearman,
)
from sift_trainer.measuring.gradients import UpdateDescent, dropped_descent
from sift_trainer.probe.measurements import Estimate, mean_over_batches, ratio_of_means
from sift_trainer.probe.results import Descent, Figures, GradientNorms


@dataclass
class Measured:
    """What each batch gave for one choice, or for random rows.

    Attributes:
        scores: (B,) of each batch.
        kept: row numbers (k,) of the largest scores of each batch.
        plain: descent by updates along the gradient, of each gradient batch.
        adam: the same along AdamW's preconditioned gradient; empty without second moments.
    """

    scores: list[Tensor] = field(default_factory=list)
    kept: list[Tensor] = field(default_factory=list)
    plain: list[UpdateDescent] = field(default_factory=list)
    adam: list[UpdateDescent] = field(default_factory=list)


def with_comparison(
    figures: Figures, found: Measured, exact: Measured, margins: bool, notes: Notes
) -> Figures:
    """The figures with all that compares scores with exact losses of the same batches.

    Args:
        margins: whether a sample's loss is that of a single prediction by a linear head.
        notes: receives the reason for each None.
    """
    overlaps = [overlap(*rows) for rows in zip(found.kept, exact.kept, strict=True)]
    pairs = [
        (losses[both], scores[both])
        for losses, scores in zip(exact.scores, found.scores, strict=True)
        for both in [comparable(losses, scores)]
    ]
    correlations = [spearman(*each) for each in pairs]
    losses, scores = (torch.cat(each) for each in zip(*pairs, strict=True))
    approximates_loss = figures.choice.criterion == "loss"
    if not approximates_loss:
        notes.setdefault("sigma", "an assumption on approximate losses (only criterion 'loss')")
    compared = compare_with_losses(losses, scores, approximates_loss, notes)
    below_limit = beta = None
    if compared.noise is not None and compared.loss_ratio is not None:
        below_limit = compared.noise.sigma < theory.sigma_max(compared.loss_ratio)
    if margins and approximates_loss:
        positive = both_positive(losses, scores)
        early, full = (theory.margins_from_losses(each[positive]) for each in (scores, losses))
        beta = number_or_note(notes, "beta", lambda: theory.beta_from_margins(early, full))
    return replace(
        figures,
        overlap=mean_over_batches(overlaps),
        spearman=mean_over_batches([each for each in correlations if each is not None]),
        agreement=compared.order,
        beta=beta,
        agreement_by_theorem=None if beta is None else theory.argmax_agreement(beta),
        noise=compared.noise,
        noise_is_small=below_limit,
        approximate_loss_ratio=compared.approximate_loss_ratio,
    )


def descent_figures(
    kept: Sequence[UpdateDescent],
    random: Sequence[UpdateDescent],
    keep_ratio: float,
    scoring_share: float,
    step_seconds: float,
) -> Descent | None:
    """Descents per second and their ratios; None for fewer than two gradient batches."""
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
        dropped_ratio=ratio and dropped_ratio(ratio, keep_ratio),
    )


def dropped_ratio(kept: Estimate, keep_ratio: float) -> Estimate:
    """Descent by the dropped rows over that by random rows, from that of the kept rows."""
    value, high, low = (
        dropped_descent(each, 1.0, keep_ratio) for each in (kept.value, kept.low, kept.high)
    )
    return Estimate(value, low, high)


def gradient_norms(kept: Sequence[Tensor], norms: Sequence[Tensor]) -> GradientNorms | None:
    """Mean gradient norms of kept and dropped rows.

    Args:
        kept: row numbers (k,) of each batch.
        norms: (B,) of the first batches; not finite for a row without a label.
    """
    means: list[tuple[float, float]] = []
    for rows, lengths in zip(kept, norms, strict=False):
        is_kept = torch.zeros(len(lengths), dtype=torch.bool).index_fill(0, rows, True)
        finite = lengths.isfinite()
        both = lengths[is_kept & finite], lengths[~is_kept & finite]
        if len(both[0]) and len(both[1]):
            means.append((float(both[0].mean()), float(both[1].mean())))
    if not means:
        return None
    above, below = ([each[side] for each in means] for side in (0, 1))
    return GradientNorms(
        sum(above) / len(means), sum(below) / len(means), ratio_of_means(above, below)
    )
