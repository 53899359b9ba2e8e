"""One class id per prediction: tokens, samples, choices, images, sounds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from sift_trainer.scoring.criteria import Criterion, cross_entropy, score_positions
from sift_trainer.scoring.logit_pass import Values
from sift_trainer.scoring.positions import (
    IGNORE_INDEX,
    aligned_labels,
    label_counts,
    scored_positions,
)
from sift_trainer.scoring.task import Task, no_fit

SENTENCE_LOGITS = {
    "next_sentence_label": "seq_relationship_logits",
    "sentence_order_label": "sop_logits",
}
"""Labels of sentence pairs in pre-training, and the names of their logits in models' outputs."""


@cache  # one function for each value, which is compiled once
def _smoothed_cross_entropy(smoothing: float) -> Values:
    return partial(cross_entropy, label_smoothing=smoothing)


@dataclass(frozen=True)
class ClassIds(Task):
    """Logits (B, C) or (B, T, C) and class ids (B,) or (B, T), -100 where there is none.

    The sentence label of a pre-training model is not part of the score: the paper sifts by the
    masked-LM loss only (section 7.1).

    Attributes:
        shifted: whether prediction t is compared with label t + 1.
        smoothing: the share of the loss that is the mean over all classes.
    """

    shifted: bool = False
    smoothing: float = 0.0

    def labels(self, batch: Mapping[str, Any]) -> Tensor:
        labels = super().labels(batch)
        if labels.is_floating_point():
            raise ValueError(
                f"labels are {labels.dtype}, but the scores are over classes; give integer class "
                "ids, name another task with register_task, or use sift_criterion='random'"
            )
        return aligned_labels(labels, self.shifted)

    def unlabelled(self, logits: Tensor, batch: Mapping[str, Any]) -> Tensor:
        labels = logits.new_zeros(logits.shape[:-1], dtype=torch.long)
        mask = batch.get("attention_mask")
        if mask is None or mask.shape != labels.shape:
            return labels
        return labels.masked_fill(mask == 0, IGNORE_INDEX)

    def scores(
        self,
        criterion: Criterion,
        logits: Tensor,
        labels: Tensor,
        fraction: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        if labels.shape == (*logits.shape[:-1], 1):
            labels = labels.squeeze(-1)  # one class id in a list, which models flatten
        if logits.shape[:-1] != labels.shape:
            raise no_fit(logits, labels, "one class id per prediction")
        # Logits of all positions exist, so take all of each row: no wait for a count of labels.
        per_row = labels.numel() // len(labels)
        positions = scored_positions(labels, fraction, generator, per_row)
        values = self.values(criterion)
        return score_positions(values, logits.flatten(0, -2), positions, gathered=False)

    def values(self, criterion: Criterion) -> Values:
        if criterion.is_loss and self.smoothing:
            return _smoothed_cross_entropy(self.smoothing)
        return super().values(criterion)

    def counts(self, labels: Tensor) -> Tensor:
        return label_counts(labels)

    def unscored(
        self, outputs: Any, batch: Mapping[str, Any], weights: Tensor | None = None
    ) -> Tensor | float:
        for name, place in SENTENCE_LOGITS.items():
            if name in batch and isinstance(outputs, Mapping) and place in outputs:
                labels = batch[name].flatten()
                losses = cross_entropy(outputs[place], labels)  # 0 without a label
                total = losses.sum() if weights is None else (losses * weights).sum()
                return total / label_counts(labels).sum()
        return 0.0

    def smoothed(self, factor: float) -> Task:
        return replace(self, smoothing=factor)
