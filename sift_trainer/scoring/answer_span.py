"""Extractive question answering: where the answer starts, and where it ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sift_trainer.scoring.class_ids import ClassIds
from sift_trainer.scoring.criteria import cross_entropy
from sift_trainer.scoring.positions import IGNORE_INDEX, label_counts
from sift_trainer.scoring.task import Task

_INPUTS = ("input_ids", "inputs_embeds")


@dataclass(frozen=True)
class AnswerSpan(ClassIds):
    """Two predictions per sample, over the tokens of the input: logits (B, 2, T), labels (B, 2).

    Models average starts and ends separately. If different numbers of them are ignored, the mean
    over samples is only close to their loss. `shares` is exact.
    """

    fields: ClassVar[tuple[str, ...]] = ("start_positions", "end_positions")

    def logits(
        self, outputs: Any, batch: Mapping[str, Any], find: Callable[[Any], Tensor]
    ) -> Tensor:
        if isinstance(outputs, tuple):  # config.return_dict=False, with or without a loss in front
            ends = [value for value in outputs if isinstance(value, Tensor) and value.dim()][:2]
        elif {"start_logits", "end_logits"} <= set(outputs):
            ends = [outputs["start_logits"], outputs["end_logits"]]
        else:
            raise ValueError(
                f"a question-answering model returned {sorted(outputs)}, but the score needs "
                "'start_logits' and 'end_logits'; use sift_criterion='random'"
            )
        return torch.stack(ends, dim=1)

    def labels(self, batch: Mapping[str, Any]) -> Tensor:
        length = next(batch[name].shape[1] for name in _INPUTS if name in batch)
        positions = torch.stack([batch[name].flatten() for name in self.fields], dim=1)
        # As in models: a negative position becomes the first token, one too large is ignored.
        return positions.clamp(min=0).masked_fill(positions >= length, IGNORE_INDEX)

    def shares(self, losses: Tensor, outputs: Any, batch: Mapping[str, Any]) -> Tensor:
        labels = self.labels(batch)
        logits = self.logits(outputs, batch, lambda given: given)
        of_ends = cross_entropy(logits.flatten(0, 1), labels.flatten()).view(labels.shape)
        return (of_ends / label_counts(labels.T).clamp(min=1)).sum(dim=1)  # ignored ones are 0

    def smoothed(self, factor: float) -> Task:
        return self  # the Trainer smooths only a field named ``labels``
