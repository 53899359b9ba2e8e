"""All that sifting needs to know about the model of one training run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import logging

from sift_trainer.arguments import SiftArguments, scores_with_model, wants_masked_only_head
from sift_trainer.collation import with_known_fields
from sift_trainer.early_exit import exit_adapter, labelled_last_block
from sift_trainer.labelled_head import LabelledHead, gathered_labels
from sift_trainer.loss_contract import (
    Gather,
    divides_by_count,
    finite_probe,
    shifts_labels,
    why_not_gathered,
)
from sift_trainer.positions import IGNORE_INDEX, aligned_labels, scored_positions
from sift_trainer.scorer import Scorer, inference, labels_are_inputs

logger = logging.get_logger(__name__)


class Sifter:
    """A model with its scorer, its labelled-only head, and what its loss does with a count.

    Attributes:
        asked: False if the first batch had no row to ask about: the next one has to do.

    Args:
        model: the bare module; its modes and buffers are never left changed.
        forward: what to call for a pass without gradient (the model, or a wrapper's forward).
        sift: the sift fields.
        label_names: the batch fields that hold labels.
        batch: the first batch on the model's device, to ask the model on; None without ``labels``.
        accepts_count: whether the Trainer would pass the model ``num_items_in_batch``.
        own_loss: why the loss that is trained on is not the model's own; None if it is.
        compiled: whether training calls a compiled model, which no block can be swapped in.
        agreed: whether all processes answer yes; they call it together.
    """

    def __init__(
        self,
        model: nn.Module,
        forward: Callable[..., Any],
        sift: SiftArguments,
        label_names: list[str],
        batch: Mapping[str, Any] | None,
        accepts_count: bool,
        own_loss: str | None,
        compiled: bool = False,
        agreed: Callable[[bool], bool] = bool,
    ) -> None:
        self.model = model
        self.forward = forward if own_loss is None else with_known_fields(model, forward)
        self.head = LabelledHead.of(model) if wants_masked_only_head(sift) else None
        self.shifted = False
        self.divides_by_count = True
        self.gather: Gather | None = None  # what training passes its labelled positions to
        self.compiled = compiled
        self.agreed = agreed
        self.asked = batch is None
        if batch is not None:
            first_block = exit_adapter(model).at(1) if scores_with_model(sift) else nullcontext()
            with inference(model), first_block:
                probe = finite_probe(self.forward, batch, agreed=agreed)
                if probe is not None:
                    self.asked = True
                    self._ask(probe, accepts_count, own_loss)
        self.scorer = (
            Scorer(model, sift, label_names, self.head, self.shifted)
            if sift.sift_keep_ratio < 1
            else None
        )
        if own_loss is not None and self.asked:
            self._say_what_scores(own_loss, sift, labelled=batch is not None)

    def _ask(self, probe: Mapping[str, Any], accepts_count: bool, own_loss: str | None) -> None:
        """Ask the model what its loss does."""
        if not labels_are_inputs(self.model):
            self.shifted = self.agreed(shifts_labels(self.forward, probe))
        if own_loss is None and accepts_count:
            self.divides_by_count = self.agreed(divides_by_count(self.forward, probe))
        if probe["labels"].dim() < 2:
            self.head = None  # one prediction per sample: there is nothing to leave out
        if self.head is None:
            return
        reason = self._why_not(self.head.gather, probe)
        if reason is not None:
            self.head = None
            does = "trains" if own_loss is None else "scores"
            logger.warning(
                f"{type(self.model).__name__} {does} with its head on all positions, not only on "
                f"the labelled ones: {reason}"
            )
        elif own_loss is None:
            self.gather = self._widest(self.head, probe)

    def _say_what_scores(self, own_loss: str, sift: SiftArguments, labelled: bool) -> None:
        """A loss of the trainer's own is one number for a batch: it tells no row from another."""
        said = []
        if self.head is not None:
            said.append("it gets the kept rows with all their positions")
        if scores_with_model(sift):
            label = "the next label" if self.shifted else "their label"
            where = label if labelled else "any token"
            said.append(
                f"rows are chosen by sift_criterion={sift.sift_criterion!r} of the model's own "
                f"logits for {where}, at exit layer {sift.sift_exit_layer}"
            )
        if said:
            logger.warning(f"{own_loss}: {'; '.join(said)}")

    def _why_not(self, gather: Gather, probe: Mapping[str, Any]) -> str | None:
        """Why no process trains with ``gather``: one that did alone would make other passes."""
        labels = aligned_labels(probe["labels"], self.shifted)
        if not self.agreed(bool((labels != IGNORE_INDEX).any())):
            return "the first batch has no labelled position to try it on"
        reason = why_not_gathered(self.forward, probe, gather, labels, self.shifted)
        if self.agreed(reason is None):
            return None
        return reason or "another process found a reason not to"

    def _widest(self, head: LabelledHead, probe: Mapping[str, Any]) -> Gather:
        """The last block on labelled positions too, where it can be left out elsewhere."""
        last_block = None if self.compiled else labelled_last_block(self.model, head)
        if last_block is None:
            return head.gather
        with last_block.whole():
            refused = self._why_not(last_block.gather, probe)
        return head.gather if refused else last_block.gather

    def score(self, batch: Mapping[str, Any], generator: torch.Generator) -> Tensor:
        """Scores (B,) of a batch on the model's device; see `Scorer`."""
        assert self.scorer is not None
        with inference(self.model):
            return self.scorer(self.forward, batch, generator)

    @contextmanager
    def labelled_only(self, batch: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The batch to train on, with its labels gathered as the head gathers its positions."""
        if self.gather is None:
            yield batch
            return
        aligned = aligned_labels(batch["labels"], self.shifted)
        flat, labels = gathered_labels(scored_positions(aligned), self.shifted)
        with self.gather(flat, aligned.shape):
            yield {**batch, "labels": labels}

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
