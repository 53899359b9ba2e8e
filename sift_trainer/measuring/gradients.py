"""Gradients of some rows as training takes them, and inner products of gradients."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from sift_trainer.scoring.positions import label_counts
from sift_trainer.selection.rows import take_rows
from sift_trainer.sifted_model.model import SiftedModel
from sift_trainer.sifted_model.no_trace import Buffers

Gradient = list[Tensor | None]
"""One tensor for each parameter that is trained; None for one that the loss does not reach."""


class Gradients:
    """Takes gradients of a trainer's loss without training; in the state of `untouched`.

    Args:
        trainer: whose loss, and mixed precision, it is.
        sifted: of its model.
    """

    def __init__(self, trainer: Trainer, sifted: SiftedModel) -> None:
        self.trainer, self.sifted, self.model = trainer, sifted, sifted.module
        self.trained = [each for each in self.model.parameters() if each.requires_grad]
        self._buffers = Buffers(self.model)

    def forward_backward(self, batch: Mapping[str, Any]) -> None:
        """One forward and backward of a batch, with the labelled-only head where training has it.

        Leaves gradients in the parameters, and moved running statistics in the buffers.
        """
        torch.autograd.backward(self._loss(batch))

    def forget(self) -> None:
        """Undo what `forward_backward` left."""
        for parameter in self.trained:
            parameter.grad = None
        self._buffers.restore()

    def of(
        self, batch: Mapping[str, Any], rows: Tensor | None = None, training: bool = True
    ) -> Gradient:
        """Gradient of the loss of these rows of a batch; of all if None.

        Args:
            training: in training mode, as a step takes it; else in evaluation mode, where a row's
                gradient does not depend on the others and nothing is dropped.
        """
        self.model.train(training)
        loss = self._loss(batch if rows is None else take_rows(batch, rows))
        # Not by `backward`: hooks of parameters, of optimizers that step in them too, stay silent.
        found: Gradient = [*torch.autograd.grad(loss, self.trained, allow_unused=True)]
        self._buffers.restore()
        return found

    def _loss(self, batch: Mapping[str, Any]) -> Tensor:
        trainer = self.trainer
        with (
            self.sifted.labelled_only(batch) as labelled,
            trainer.compute_loss_context_manager(),
            trainer.accelerator.autocast(),
        ):
            rows = dict(labelled)  # the Trainer takes labels out of it
            loss: Tensor = trainer.compute_loss(
                self.model, rows, num_items_in_batch=self._items(batch)
            )
            return loss

    def _items(self, batch: Mapping[str, Any]) -> Tensor | None:
        """How many labels the loss is divided by, for losses that are: as if those of all processes
        were as many, by whose number the Trainer multiplies."""
        if not self.sifted.facts.divides_by_count or not isinstance(batch.get("labels"), Tensor):
            return None
        args = self.trainer.args
        counted = label_counts(self.sifted.countable_labels(batch)["labels"]).sum().clamp(min=1)
        return counted * (args.world_size if args.average_tokens_across_devices else 1)


def inner(first: Gradient, second: Gradient, scales: Sequence[Tensor] | None = None) -> float:
    """Inner product of two gradients; of ``first`` and ``scales * second`` with one tensor of
    scales for each parameter."""
    products = [
        (one.float() * other.float() * (1.0 if scales is None else scales[number])).sum().double()
        for number, (one, other) in enumerate(zip(first, second, strict=True))
        if one is not None and other is not None
    ]
    return float(torch.stack(products).sum()) if products else 0.0


def length(gradient: Gradient, scales: Sequence[Tensor] | None = None) -> float:
    """Euclidean norm of a gradient, or of ``scales * gradient``."""
    squares = [
        (one.float() * (1.0 if scales is None else scales[number])).square().sum().double()
        for number, one in enumerate(gradient)
        if one is not None
    ]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
