"""Regression: one or more numbers per sample."""

from dataclasses import dataclass

from torch import Tensor

from sift_trainer.scoring.criteria import Criterion
from sift_trainer.scoring.logit_pass import Values
from sift_trainer.scoring.task import Task, no_fit


@dataclass(frozen=True)
class Regression(Task):
    """Predictions (B, D) and targets (B, D), or (B,) if D is 1 (``problem_type="regression"``).

    A sample's loss is the mean of its squared errors. Numbers have no predictive entropy.
    """

    def fitted(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if logits.dim() > 2 or logits.numel() != labels.numel() or len(logits) != len(labels):
            raise no_fit(logits, labels, "one number per prediction")
        logits = logits.reshape(len(logits), -1)
        return logits, labels.reshape(logits.shape).float()

    def values(self, criterion: Criterion) -> Values:
        if criterion.is_entropy:
            raise ValueError(
                "sift_criterion='entropy' needs a predicted distribution, but a regression "
                "predicts numbers; use sift_criterion='loss'"
            )
        return squared_error if criterion.is_loss else super().values(criterion)


def squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean over a sample's numbers: (B, D), (B, D) -> (B,)."""
    return (predictions.float() - targets).square().mean(dim=-1)
