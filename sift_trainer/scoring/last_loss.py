"""The loss that a sample had when it was last trained on: scores without a scoring pass."""

from typing import Any

import torch
from accelerate.utils import gather
from torch import Tensor, nn

from sift_trainer.scoring.criteria import (
    UNLABELLED,
    Samples,
    StatefulCriterion,
    register_criterion,
)

ROW = "sift_row"
"""The column with the number of a sample in the training data."""


class LastLoss(StatefulCriterion):
    """The last loss of a sample in nats; of a sample that was not trained on, the largest of these.
    `UNLABELLED` for one that had no label or no finite loss.

    InfoBatch (Qin et al., ICLR 2024) selects by it. All processes know all losses.
    """

    scored_by = "random"
    columns = (ROW,)

    def __init__(self, model: nn.Module) -> None:
        self.losses = torch.empty(0)  # NaN for samples that were not trained on

    def scores(self, candidates: Samples) -> Tensor:
        rows = candidates.fields[ROW].cpu()
        self._grow(int(rows.max()) + 1)
        last = self.losses[rows]
        seen = self.losses[self.losses > UNLABELLED]
        largest = seen.max() if len(seen) else torch.tensor(1.0)
        return torch.where(last.isnan(), largest, last).to(candidates.values.device)

    def learn(self, trained: Samples) -> None:
        both = torch.stack([trained.fields[ROW].double(), trained.values.double()], dim=1)
        rows, losses = gather(both).cpu().unbind(dim=1)
        known = losses.isfinite() & (losses > UNLABELLED)
        self._grow(int(rows.max()) + 1)
        self.losses[rows.long()] = losses.float().where(known, UNLABELLED)

    def _grow(self, size: int) -> None:
        if size > len(self.losses):
            more = torch.full((2 * size - len(self.losses),), torch.nan)
            self.losses = torch.cat([self.losses, more])

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses = state["losses"]


register_criterion("last_loss", LastLoss)
