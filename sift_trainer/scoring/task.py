"""A task: where predictions and labels are, and how the losses of samples make up the loss."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from sift_trainer.scoring.criteria import Criterion
from sift_trainer.scoring.logit_pass import Values


class Task:
    """What a model predicts for B samples, and what its loss compares the predictions with."""

    fields: ClassVar[tuple[str, ...]] = ("labels",)
    """Batch fields that hold the labels."""

    def labelled(self, batch: Mapping[str, Any]) -> bool:
        """Whether the batch has all of them."""
        return all(isinstance(batch.get(name), Tensor) for name in self.fields)

    def logits(
        self, outputs: Any, batch: Mapping[str, Any], find: Callable[[Any], Tensor]
    ) -> Tensor:
        """The predictions in what the model returned; ``find`` takes them from the usual place."""
        return find(outputs)

    def labels(self, batch: Mapping[str, Any]) -> Tensor:
        """The labels that the loss compares the logits with; a ValueError for another kind."""
        labels: Tensor = batch["labels"]
        return labels

    def unlabelled(self, logits: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Labels for a criterion that needs none; they mark every prediction except padding."""
        return torch.zeros_like(logits)

    def fitted(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Both as `values` takes them; a ValueError if they do not fit each other."""
        return logits, labels

    def scores(
        self,
        criterion: Criterion,
        logits: Tensor,
        labels: Tensor,
        fraction: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Per-sample scores (B,) in fp32; with the criterion `LOSS`, per-sample losses.

        Args:
            labels: from `labels` or `unlabelled`.
            fraction: share of a sample's labelled positions to score, drawn by ``generator``.

        Raises:
            ValueError: if logits and labels do not fit each other.
        """
        return self.values(criterion)(*self.fitted(logits, labels)).float()

    def values(self, criterion: Criterion) -> Values:
        """The criterion for single predictions; a ValueError if it has no meaning for the task."""
        assert criterion.values is not None, "this criterion makes no pass through the model"
        return criterion.values

    def counts(self, labels: Tensor) -> Tensor:
        """The number of labels of each sample (B,), its weight in the model's loss."""
        return torch.ones(len(labels), device=labels.device)

    def reduce(self, losses: Tensor, counts: Tensor) -> Tensor:
        """The model's own loss from per-sample losses (B,) and `counts` (B,)."""
        return (losses * counts).sum() / counts.sum()

    def shares(self, losses: Tensor, outputs: Any, batch: Mapping[str, Any]) -> Tensor:
        """The shares (B,) of samples with these ``losses`` (B,) in the scored part of the model's
        own loss, up to one factor for all."""
        return losses * self.counts(self.labels(batch))

    def unscored(
        self, outputs: Any, batch: Mapping[str, Any], weights: Tensor | None = None
    ) -> Tensor | float:
        """The part of the model's own loss that samples are not scored by; with ``weights`` (B,)
        of the samples, if given."""
        return 0.0

    def smoothed(self, factor: float) -> "Task":
        """This task under the Trainer's ``label_smoothing_factor``, which needs class ids."""
        raise ValueError(
            f"label_smoothing_factor={factor} smooths class ids, but the labels of a "
            f"{type(self).__name__} task are no class ids; use 0"
        )


def no_fit(logits: Tensor, labels: Tensor, wanted: str) -> ValueError:
    """The error for labels of another shape than the predictions."""
    return ValueError(
        f"labels of shape {tuple(labels.shape)} do not fit logits of shape "
        f"{tuple(logits.shape)}; the score needs {wanted}: name the model's task with "
        "register_task, or use sift_criterion='random'"
    )
