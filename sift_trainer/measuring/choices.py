"""How far two ways to choose rows agree: overlap of the kept rows, rank correlation of scores."""

from collections.abc import Callable

import torch
from torch import Tensor

from sift_trainer.scoring.criteria import UNLABELLED


def overlap(kept: Tensor, exact: Tensor) -> float:
    """Share of the row numbers ``exact`` (k,) that are among ``kept`` (k,), in [0, 1]."""
    return float(torch.isin(exact, kept).double().mean())


def ranks(values: Tensor) -> Tensor:
    """Ranks (n,) of values (n,) from 0 on, equal values with the mean of theirs, in fp64."""
    unique: Callable[..., tuple[Tensor, Tensor, Tensor]] = torch.unique
    _, group, sizes = unique(values, return_inverse=True, return_counts=True)
    ends = sizes.cumsum(0).double()
    middles: Tensor = ends - (sizes.double() + 1) / 2
    return middles[group]


def spearman(first: Tensor, second: Tensor) -> float | None:
    """Spearman's rank correlation of two rows of numbers (n,), in [-1, 1].

    None where one of them is constant and has no order.
    """
    centred = [each - each.mean() for each in (ranks(first), ranks(second))]
    lengths = centred[0].norm() * centred[1].norm()
    return float(centred[0] @ centred[1] / lengths) if lengths > 0 else None


def comparable(losses: Tensor, scores: Tensor) -> Tensor:
    """Which samples (n,) have both a loss and a score: finite ones, of labelled rows."""
    both = torch.stack([losses, scores])
    found: Tensor = (both.isfinite() & (both > UNLABELLED)).all(dim=0)
    return found
