"""How well scores agree with the losses that the kept samples turn out to have, during a run."""

import math
from typing import Any

import torch
from torch import Tensor

from sift_trainer.scoring.criteria import UNLABELLED
from sift_trainer.scoring.predicted_loss import mean_over_processes

MEMORY = 0.98  # weight of the past, for each measured update
LEAST = 25  # measured updates before the first decision
SIGHTLESS = 0.15  # an agreement below this, by two standard errors, is no reason to choose


class RunningAgreement:
    """Spearman's rank correlation of scores and losses, averaged over the last updates.

    The samples are the kept ones, so nothing is computed for it but their losses. All processes
    have the same mean.

    Attributes:
        blind: whether the scores were found not to agree; the run then stops choosing by them.
    """

    def __init__(self) -> None:
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._totals: Tensor | None = None  # sum and weight, on the device between decisions
        self._updates = 0
        self.blind = False

    def add(self, scores: Tensor, losses: Tensor) -> None:
        """Note scores (k,) and losses (k,) of a micro-batch of this update."""
        self._pairs.append((scores, losses.detach()))

    def end_update(self, processes: int) -> bool:
        """Add what was noted since the last update; whether the scores have just become blind."""
        pairs, self._pairs = self._pairs, []
        if not pairs:
            return False
        scores = torch.cat([scores.float() for scores, _ in pairs])
        losses = torch.cat([losses.float() for _, losses in pairs])
        found = mean_over_processes(rank_correlation(scores, losses.to(scores.device)))
        self._totals = found + (0 if self._totals is None else MEMORY * self._totals)
        self._updates += 1
        if self.blind or self._updates % LEAST:
            return False
        averaged = min(self._updates, (1 + MEMORY) / (1 - MEMORY))
        error = 1 / math.sqrt(max(1, len(scores) - 1) * averaged * processes)
        value = self.value
        self.blind = value is not None and value + 2 * error < SIGHTLESS
        return self.blind

    @property
    def value(self) -> float | None:
        """The mean correlation in [-1, 1]; None before the first one. Waits for the device."""
        if self._totals is None:
            return None
        total, weight = self._totals.tolist()
        return total / weight if weight else None

    def state(self) -> dict[str, Any]:
        totals = None if self._totals is None else self._totals.tolist()
        return {"totals": totals, "updates": self._updates, "blind": self.blind}

    @classmethod
    def restored(cls, state: dict[str, Any], device: torch.device) -> "RunningAgreement":
        """The agreement with the `state` of a checkpoint; an empty one is a new one."""
        found = cls()
        if state:
            totals = state["totals"]
            found._totals = None if totals is None else torch.tensor(totals, device=device)
            found._updates, found.blind = state["updates"], state["blind"]
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
