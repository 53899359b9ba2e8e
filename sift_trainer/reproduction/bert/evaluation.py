"""Evaluation of masked language models without logits of unlabelled positions."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sift_trainer import SiftTrainer, WholeCheckpoints
from sift_trainer.early_exit.labelled_head import LabelledHead
from sift_trainer.scoring.positions import IGNORE_INDEX, scored_positions


class PretrainingTrainer(WholeCheckpoints, SiftTrainer):
    """Evaluates a `BertForPreTraining`, its vocabulary head on labelled positions only."""

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Any, ...]:
        """The loss that the model would return; predictions; and both kinds of labels.

        Predictions are the likeliest word piece at labelled positions, else -100, as int64 (B, T);
        the loss in nats there, else 0, as float32 (B, T); the likelier class of the pair, (B,).
        """
        batch = self._prepare_inputs(inputs)
        labels, next_sentence_label = batch.pop("labels"), batch.pop("next_sentence_label")
        positions = scored_positions(labels)
        head: Any = LabelledHead.of(self.accelerator.unwrap_model(model, keep_torch_compile=False))
        with torch.no_grad(), self.compute_loss_context_manager(), head.at(positions.flat):
            output = model(**batch)
        logits = output.prediction_logits.flatten(0, 1).float()
        pair_logits = output.seq_relationship_logits.float()
        losses = functional.cross_entropy(logits, positions.targets, reduction="none")
        loss = losses.mean() + functional.cross_entropy(pair_logits, next_sentence_label)
        predictions = (
            _at(positions.flat, logits.argmax(dim=-1), labels.shape, IGNORE_INDEX),
            _at(positions.flat, losses, labels.shape, 0.0),
            pair_logits.argmax(dim=-1),
        )
        return loss, predictions, (labels, next_sentence_label)


def _at(flat: Tensor, values: Tensor, shape: torch.Size, fill: float) -> Tensor:
    """A tensor of ``shape`` with ``values`` (N,) at flat indices, ``fill`` elsewhere."""
    whole = values.new_full((shape.numel(),), fill)
    return whole.index_copy(0, flat, values).view(shape)
