"""Evaluation of masked language models without logits of unlabelled positions."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sift_trainer.early_exit.labelled_head import LabelledHead
from sift_trainer.scoring.positions import IGNORE_INDEX, scored_positions


class Evaluated(NamedTuple):
    """The results of one batch.

    Attributes:
        predicted_ids: int64 (B, T), the likeliest word piece at labelled positions, else -100.
        losses: float32 (B, T), the loss in nats there, else 0.
        next_sentence: int64 (B,), the likelier class.
        loss: scalar, what the model would return: mean masked-LM loss + mean next-sentence loss.
    """

    predicted_ids: Tensor
    losses: Tensor
    next_sentence: Tensor
    loss: Tensor


def evaluate_pretraining(
    forward: Callable[..., Any], head: LabelledHead, batch: Mapping[str, Tensor]
) -> Evaluated:
    """One batch through a `BertForPreTraining`, its vocabulary head on labelled positions only.

    Args:
        forward: the model, or its wrapper's forward.
        head: the model's head.
        batch: with `labels` (B, T), -100 where nothing is predicted, and `next_sentence_label`.
    """
    labels, next_sentence_label = batch["labels"], batch["next_sentence_label"]
    positions = scored_positions(labels)
    labelled = {"labels", "next_sentence_label"}
    inputs = {name: value for name, value in batch.items() if name not in labelled}
    with head.at(positions.flat):
        output = forward(**inputs)
    logits = output.prediction_logits.flatten(0, 1)
    losses = functional.cross_entropy(logits.float(), positions.targets, reduction="none")
    pair_logits = output.seq_relationship_logits.float()
    return Evaluated(
        _at(positions.flat, logits.argmax(dim=-1), labels.shape, IGNORE_INDEX),
        _at(positions.flat, losses, labels.shape, 0.0),
        pair_logits.argmax(dim=-1),
        losses.mean() + functional.cross_entropy(pair_logits, next_sentence_label),
    )


def _at(flat: Tensor, values: Tensor, shape: torch.Size, fill: float) -> Tensor:
    """A tensor of ``shape`` with ``values`` (N,) at flat indices, ``fill`` elsewhere."""
    whole = values.new_full((shape.numel(),), fill)
    return whole.index_copy(0, flat, values).view(shape)
