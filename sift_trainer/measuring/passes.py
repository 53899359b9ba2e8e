"""Passes of a trainer's model that train nothing: scores, losses and gradients."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from sift_trainer.measuring.gradients import Gradient
from sift_trainer.scoring.criteria import StatefulCriterion
from sift_trainer.scoring.positions import label_counts
from sift_trainer.selection.rows import take_rows
from sift_trainer.sifted_model.model import Candidates, SiftedModel
from sift_trainer.sifted_model.no_trace import Buffers, inference
from sift_trainer.sifted_model.scorer import Scorer


class Passes:
    """Scores rows and takes gradients, which need the context `untouched`. Never compiled."""

    def __init__(self, trainer: Trainer, sifted: SiftedModel) -> None:
        self.trainer, self.sifted, self.model = trainer, sifted, sifted.module
        self.trained = [each for each in self.model.parameters() if each.requires_grad]
        self._buffers = Buffers(self.model)

    def score(self, scorer: Scorer, batch: Mapping[str, Any], generator: torch.Generator) -> Tensor:
        """Scores (B,) of a batch on the model's device."""
        with inference(self.model), self.trainer.accelerator.autocast():
            return scorer(self.sifted.passes.forward, batch, generator)

    def candidates(
        self,
        batch: Mapping[str, Any],
        generator: torch.Generator,
        scorer: Scorer | None = None,
        criterion: StatefulCriterion | None = None,
    ) -> Candidates:
        """What the run, or another scorer and criterion, selects by."""
        with self.trainer.accelerator.autocast():
            return self.sifted.score_candidates(batch, generator, scorer, criterion)

    def gradient(self, batch: Mapping[str, Any], rows: Tensor | None = None) -> Gradient:
        """Gradient of the loss of the rows (k,) of a batch, in training mode. None: of all."""
        self.model.train()
        loss = self._loss(batch if rows is None else take_rows(batch, rows))
        # `backward` would call hooks of the parameters, such as optimizers that step in them.
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
            rows = dict(labelled)  # the Trainer removes the labels from it
            loss: Tensor = trainer.compute_loss(
                self.model, rows, num_items_in_batch=self._items(batch)
            )
            return loss

    def _items(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Number of labels by which the loss is divided; None for a loss that is a plain mean.

        The Trainer may divide by the labels of all processes and multiply the loss by their number.
        All are taken to have as many labels as this one.
        """
        if not self.sifted.facts.divides_by_count or not isinstance(batch.get("labels"), Tensor):
            return None
        args = self.trainer.args
        counted = label_counts(self.sifted.countable_labels(batch)["labels"]).sum().clamp(min=1)
        return counted * (args.world_size if args.average_tokens_across_devices else 1)
