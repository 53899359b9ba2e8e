"""How well scores agree with exact losses: which rows they keep, and in which order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from sift_trainer.measuring import theory
from sift_trainer.measuring.running_agreement import rank_correlation
from sift_trainer.scoring.criteria import UNLABELLED

T = TypeVar("T")


@dataclass(frozen=True)
class Comparison:
    """Scores of some samples compared with their exact losses. None: undefined for them.

    Attributes:
        order: p_j (Equation 12), by counting pairs.
        noise: sigma of Assumption 5.12; only for scores that approximate the loss.
        loss_ratio: rho_2 (Definition 5.6).
        approximate_loss_ratio: rho_{2,approx} (Definition 5.13).
    """

    order: theory.Agreement | None
    noise: theory.NoiseFit | None
    loss_ratio: float | None
    approximate_loss_ratio: float | None


def compare_with_losses(losses: Tensor, scores: Tensor, approximates_loss: bool) -> Comparison:
    """Compare scores (n,) with exact losses (n,) of the same `comparable` samples."""
    noise = None
    if approximates_loss:
        positive = (losses > 0) & (scores > 0)  # others have no logarithm
        noise = if_defined(theory.fit_noise, losses[positive], scores[positive])
    return Comparison(
        if_defined(theory.pairwise_agreement, losses, scores),
        noise,
        if_defined(theory.loss_ratio, losses),
        if_defined(theory.approximate_loss_ratio, losses, scores),
    )


def if_defined(compute: Callable[..., T], *values: Tensor) -> T | None:
    try:
        return compute(*values)
    except ValueError:
        return None


def comparable(losses: Tensor, scores: Tensor) -> Tensor:
    """Which samples (n,) are labelled and have both a finite loss and a finite score."""
    both = torch.stack([losses, scores])
    found: Tensor = (both.isfinite() & (both > UNLABELLED)).all(dim=0)
    return found


def overlap(kept: Tensor, exact: Tensor) -> float:
    """Share of the row numbers ``exact`` (k,) that are among ``kept`` (k,), in [0, 1]."""
    return float(torch.isin(exact, kept).double().mean())


def spearman(first: Tensor, second: Tensor) -> float | None:
    """Spearman's rank correlation of numbers (n,), in [-1, 1]; None if one row is constant, or if
    there are fewer than three."""
    correlation, defined = rank_correlation(first.float(), second.float()).tolist()
    return float(correlation) if defined else None
