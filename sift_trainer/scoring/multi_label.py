"""Classification into any number of classes at once."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sift_trainer.scoring.criteria import Criterion
from sift_trainer.scoring.logit_pass import Values
from sift_trainer.scoring.task import Task, no_fit


@dataclass(frozen=True)
class MultiLabel(Task):
    """Logits (B, C) and labels (B, C) in 0..1 (``problem_type="multi_label_classification"``).

    Each class is a separate yes or no; loss and entropy are means over the classes.
    """

    def fitted(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if logits.dim() != 2 or logits.shape != labels.shape:
            raise no_fit(logits, labels, "a number in 0..1 for each class")
        return logits, labels.float()

    def values(self, criterion: Criterion) -> Values:
        if criterion.is_loss:
            return binary_cross_entropy
        return binary_entropy if criterion.is_entropy else super().values(criterion)


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the classes, in nats: (B, C), (B, C) -> (B,)."""
    values = functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    return values.mean(dim=-1)


def binary_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the classes of the entropy of yes and no, in nats: (B, C) -> (B,)."""
    logits = logits.float()
    yes, no = torch.sigmoid(logits), torch.sigmoid(-logits)  # 1 - yes would lose a small no
    summed: Tensor = torch.special.entr(yes) + torch.special.entr(no)
    return summed.mean(dim=-1)
