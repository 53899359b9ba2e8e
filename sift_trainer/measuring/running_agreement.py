"""How well scores agree with the losses that the kept samples turn out to have, during a run."""

import math
from typing import Any

import torch
from accelerate.utils import reduce
from torch import Tensor

from sift_trainer.scoring.criteria import UNLABELLED

MEMORY = 0.98  # weight of the past, for each measured update
MIN_UPDATES = 25  # measured updates before the first decision
MIN_AGREEMENT = 0.15  # it is too low if the mean plus two standard errors is below this


class RunningAgreement:
    """Spearman's rank correlation of scores and losses, averaged over the last updates.

    The samples are the kept ones, so nothing is computed for it but their losses. All processes
    have the same mean.

    Attributes:
        too_low: whether it was found to be below `MIN_AGREEMENT`.
    """

    def __init__(self) -> None:
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._totals: Tensor | None = None  # sum and weight, on the device between decisions
        self._updates = 0
        self.too_low = False

    def add(self, scores: Tensor, losses: Tensor) -> None:
        """Note scores (k,) and losses (k,) of a micro-batch of this update."""
        self._pairs.append((scores, losses.detach()))

    def end_update(self, processes: int) -> bool:
        """Add what was noted since the last update; whether it has just become too low."""
        pairs, self._pairs = self._pairs, []
        if not pairs:
            return False
        scores = torch.cat([scores.float() for scores, _ in pairs])
        losses = torch.cat([losses.float() for _, losses in pairs])
        found = reduce(rank_correlation(scores, losses.to(scores.device)), "mean")
        self._totals = found + (0 if self._totals is None else MEMORY * self._totals)
        self._updates += 1
        if self.too_low or self._updates % MIN_UPDATES:
            return False
        averaged = min(self._updates, (1 + MEMORY) / (1 - MEMORY))
        error = 1 / math.sqrt(max(1, len(scores) - 1) * averaged * processes)
        value = self.value
        self.too_low = value is not None and value + 2 * error < MIN_AGREEMENT
        return self.too_low

    @property
    def value(self) -> float | None:
        """The mean correlation in [-1, 1]; None before the first one. Waits for the device."""
        if self._totals is None:
            return None
        total, weight = self._totals.tolist()
        return total / weight if weight else None

    def state(self) -> dict[str, Any]:
        totals = None if self._totals is None else self._totals.tolist()
        return {"totals": totals, "updates": self._updates, "too_low": self.too_low}

    @classmethod
    def restored(cls, state: dict[str, Any], device: torch.device) -> "RunningAgreement":
        """The agreement with the `state` of a checkpoint; an empty one is a new one."""
        found = cls()
        if state:
            totals = state["totals"]
            found._totals = None if totals is None else torch.tensor(totals, device=device)
            found._updates, found.too_low = state["updates"], state["too_low"]
        return found


def rank_correlation(scores: Tensor, losses: Tensor) -> Tensor:
    """Spearman's correlation of scores (k,) and losses (k,), and its weight 1: (2,) in fp32. Equal
    values have the mean of their ranks. Samples without a finite score and loss, or without a
    label, do not count. Both are 0 with fewer than three others, or if all are equal.

    It does not wait for the device.
    """
    both = torch.stack([scores, losses])
    known = (both.isfinite() & (both > UNLABELLED)).all(dim=0).float()
    both = both.where(known > 0, 0)
    below = (both[:, None] < both[:, :, None]).float() @ known
    equal = (both[:, None] == both[:, :, None]).float() @ known
    ranks = below + equal / 2
    ranks = ranks - (ranks * known).sum(dim=1, keepdim=True) / known.sum().clamp(min=1)
    moments = (ranks * known) @ ranks.T
    spread = moments[0, 0] * moments[1, 1]
    usable = (known.sum() >= 3) & (spread > 0)
    correlation = moments[0, 1] / spread.clamp(min=1e-12).sqrt()
    return torch.stack([correlation, torch.ones_like(correlation)]).where(usable, 0.0)
