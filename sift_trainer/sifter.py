"""All that sifting needs to know about the model of one training run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import logging

from sift_trainer.arguments import SiftArguments, wants_masked_only_head
from sift_trainer.labelled_head import LabelledHead, gathered_labels
from sift_trainer.loss_contract import divides_by_count, why_not_gathered
from sift_trainer.positions import IGNORE_INDEX, next_token_labels, scored_positions
from sift_trainer.scorer import Scorer, inference, shifts_labels

logger = logging.get_logger(__name__)


class Sifter:
    """A model with its scorer, its labelled-only head, and what its loss does with a count.

    Args:
        model: the bare module; its modes and buffers are never left changed.
        forward: what to call for a pass without gradient (the model, or a wrapper's forward).
        sift: the sift fields.
        label_names: the batch fields that hold labels.
    """

    def __init__(
        self,
        model: nn.Module,
        forward: Callable[..., Any],
        sift: SiftArguments,
        label_names: list[str],
    ) -> None:
        self.model = model
        self.forward = forward
        self.shifted = shifts_labels(model)
        self.head = LabelledHead.of(model) if wants_masked_only_head(sift) else None
        self.divides_by_count = True
        self.trains_labelled_only = False
        self.scorer = (
            Scorer(model, sift, label_names, self.head) if sift.sift_keep_ratio < 1 else None
        )

    def examine(self, batch: Mapping[str, Any], accepts_count: bool, own_loss: str | None) -> None:
        """Ask the model, on two rows of the first batch, what its loss does.

        Args:
            batch: two rows with ``labels``, on the model's device.
            accepts_count: whether the Trainer would pass ``num_items_in_batch``.
            own_loss: why the loss is not the model's own; None if it is.
        """
        exit_first = self.scorer.truncated(1) if self.scorer is not None else nullcontext()
        with inference(self.model), exit_first:
            if accepts_count and own_loss is None:
                self.divides_by_count = divides_by_count(self.forward, batch)
            if self.head is None or batch["labels"].dim() < 2:
                return
            reason = why_not_gathered(
                self.forward, batch, self.head, self.aligned(batch["labels"]), self.shifted
            )
        if reason is not None and self.scorer is not None:
            self.scorer.head = None
        reason = reason or own_loss
        self.trains_labelled_only = reason is None
        if reason is not None:
            logger.warning(
                f"{type(self.model).__name__} trains with its head on all positions, not only on "
                f"the labelled ones: {reason}"
            )

    def score(self, batch: Mapping[str, Any], generator: torch.Generator) -> Tensor:
        """Scores (B,) of a batch on the model's device; see `Scorer`."""
        assert self.scorer is not None
        with inference(self.model):
            return self.scorer(self.forward, batch, generator)

    @contextmanager
    def labelled_only(self, batch: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The batch to train on, with its labels gathered as the head gathers its positions."""
        if not self.trains_labelled_only or self.head is None:
            yield batch
            return
        positions = scored_positions(self.aligned(batch["labels"]))
        flat, labels = gathered_labels(positions, self.shifted)
        with self.head.at(flat):
            yield {**batch, "labels": labels}

    def aligned(self, labels: Tensor) -> Tensor:
        """``labels`` (B, ...) aligned with the logits."""
        return next_token_labels(labels) if self.shifted and labels.dim() > 1 else labels

    def countable(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The labels that the loss sums over, where the Trainer counts them.

        It does not know of every causal model (GPT-2) that the first label is never a target.
        """
        if "shift_labels" in batch:
            return {name: batch[name] for name in ("labels", "shift_labels")}
        labels = batch["labels"]
        if self.shifted and labels.dim() > 1:
            labels = labels.clone()
            labels[..., 0] = IGNORE_INDEX
        return {"labels": labels}
