"""How well scores agree with the losses that the kept samples turn out to have, during a run."""

import math
from typing import Any

import torch
from torch import Tensor

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
        self._sum: Tensor | float = 0.0  # on the device between decisions
        self._weight = 0.0
        self._updates = 0
        self.blind = False

    def add(self, scores: Tensor, losses: Tensor) -> None:
        """Note scores (k,) and losses (k,) of a micro-batch of this update."""
        self._pairs.append((scores, losses.detach()))

    def end_update(self, processes: int) -> bool:
        """Add what was noted since the last update; whether the scores have just become blind."""
        pairs, self._pairs = self._pairs, []
        samples = sum(len(scores) for scores, _ in pairs)
        if samples < 3:
            return False
        scores, losses = (torch.cat(each) for each in zip(*pairs, strict=True))
        ranks = torch.stack([scores, losses.to(scores)]).argsort(dim=1).argsort(dim=1).float()
        found = torch.corrcoef(ranks)[0, 1].nan_to_num(0.0)
        self._sum = MEMORY * self._sum + mean_over_processes(found)
        self._weight = MEMORY * self._weight + 1
        self._updates += 1
        if self.blind or self._updates % LEAST:
            return False
        averaged = min(self._updates, (1 + MEMORY) / (1 - MEMORY))
        error = 1 / math.sqrt((samples - 1) * averaged * processes)
        self.blind = float(self._sum) / self._weight + 2 * error < SIGHTLESS
        return self.blind

    @property
    def value(self) -> float | None:
        """The mean correlation in [-1, 1]; None before the first one. Waits for the device."""
        return float(self._sum) / self._weight if self._weight else None

    def state(self) -> dict[str, Any]:
        return {
            "total": float(self._sum),
            "weight": self._weight,
            "updates": self._updates,
            "blind": self.blind,
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "RunningAgreement":
        """The agreement with the `state` of a checkpoint; an empty one is a new one."""
        found = cls()
        if state:
            found._sum, found._weight = state["total"], state["weight"]
            found._updates, found.blind = state["updates"], state["blind"]
        return found
