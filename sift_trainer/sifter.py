"""All that sifting needs to know about the model of one training run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import logging

from sift_trainer.arguments import SiftArguments, scores_with_model, wants_masked_only_head
from sift_trainer.batch import with_known_fields
from sift_trainer.early_exit import exit_at, labelled_last_block
from sift_trainer.labelled_head import LabelledHead, gathered_labels
from sift_trainer.loss_contract import (
    Gather,
    divides_by_count,
    finite_probe,
    loss_of,
    runs,
    shifts_labels,
    why_not_gathered,
    why_other_loss,
)
from sift_trainer.positions import IGNORE_INDEX, aligned_labels, label_counts, scored_positions
from sift_trainer.scorer import Scorer, inference, labels_are_inputs
from sift_trainer.tasks import ClassIds, Task

logger = logging.get_logger(__name__)

CLASS_IDS = ClassIds()

TrainedLoss = Callable[[dict[str, Any], Tensor], tuple[Tensor | None, Any]]
"""``(rows, number of labelled predictions)`` -> the loss that training takes of them, a mean; and
what the model returned."""


class Sifter:
    """A model with its scorer, its labelled-only head, and what its loss does with a count.

    Attributes:
        asked: False if the first batch had no row to ask about: the next one has to do.

    Args:
        model: the bare module; its modes and buffers are never left changed.
        forward: what to call for a pass without gradient (the model, or a wrapper's forward).
        sift: the sift fields.
        label_names: the batch fields that hold labels.
        batch: the first batch on the model's device, to ask the model on; None without labels.
        accepts_count: whether the Trainer would pass the model ``num_items_in_batch``.
        own_loss: why the loss that is trained on is not the model's own; None if it is.
        compiled: what to call to score where training calls a compiled model, and shapes are
            static: a graph for every number of labels is worse than none.
        agreed: whether all processes answer yes; they call it together.
        task: what the model predicts.
        trained_loss: the loss that is trained on, where that is not the model's own; None if it is,
            or if training alone can tell.
        labels_per_row: the most labels of a row, where that is known: then nothing here waits for
            the device to count them.

    Raises:
        ValueError: if the criterion has no meaning for the task, or per-sample losses do not make
            the loss that is trained on.
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
        compiled: Callable[..., Any] | None = None,
        agreed: Callable[[bool], bool] = bool,
        task: Task = CLASS_IDS,
        trained_loss: TrainedLoss | None = None,
        labels_per_row: int | None = None,
    ) -> None:
        self.model = model
        self.labels_per_row = labels_per_row
        self._lost: Tensor | None = None
        if own_loss is not None:  # which may read fields that the model does not know
            forward = with_known_fields(model, forward)
            compiled = None if compiled is None else with_known_fields(model, compiled)
        self.forward, self.compiled = forward, compiled
        self.task = task
        self.label_names = label_names
        self.head = LabelledHead.of(model) if wants_masked_only_head(sift) else None
        self.divides_by_count = True
        self.gather: Gather | None = None  # what training passes its labelled positions to
        self.agreed = agreed
        self.asked = batch is None
        scoring = scores_with_model(sift)
        probe = None
        if batch is not None:
            # At the exit, which is cheap: the answers are those of the whole model.
            adapter, k = exit_at(model, sift.sift_exit_layer) if scoring else (None, 0)
            with inference(model), adapter.at(k) if adapter else nullcontext():
                labels = task.labels(batch) if scoring else batch[task.fields[0]]
                counts = task.counts(labels) if scoring else label_counts(labels)
                probe = finite_probe(self.forward, batch, counts, agreed=agreed)
                if probe is not None:
                    self.asked = True
                    self._ask(probe, accepts_count, own_loss)
        self.gives_labels = False  # in scoring
        self.scorer = self.scorer_for(sift) if sift.sift_keep_ratio < 1 else None
        if self.scorer and probe is not None and self._fails_without_labels(self.scorer, probe):
            self.gives_labels = True
            self.scorer = self.scorer_for(sift)
        if probe is not None and scoring and sift.sift_criterion == "loss":
            with inference(model):
                self._check_loss(probe, own_loss, trained_loss)
        if own_loss is not None and self.asked:
            compared = trained_loss is not None
            self._say_what_scores(own_loss, sift, labelled=batch is not None, compared=compared)

    @property
    def shifted(self) -> bool:
        """Whether the loss compares a prediction with the next label."""
        return isinstance(self.task, ClassIds) and self.task.shifted

    def _ask(self, probe: Mapping[str, Any], accepts_count: bool, own_loss: str | None) -> None:
        """Ask the model what its loss does."""
        class_ids = isinstance(self.task, ClassIds) and "labels" in self.task.fields
        if class_ids and not labels_are_inputs(self.model):
            shifted = self.agreed(shifts_labels(self.forward, probe))
            self.task = replace(self.task, shifted=shifted)  # type: ignore[type-var]
        if own_loss is None and accepts_count and "labels" in probe:
            self.divides_by_count = self.agreed(divides_by_count(self.forward, probe))
        if not class_ids or probe["labels"].dim() < 2:
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

    def _say_what_scores(
        self, own_loss: str, sift: SiftArguments, labelled: bool, compared: bool
    ) -> None:
        """A loss of the trainer's own is one number for a batch: it tells no row from another."""
        said = []
        if self.head is not None:
            said.append("it gets the kept rows with all their positions")
        if scores_with_model(sift) and not compared:
            label = "the next label" if self.shifted else "their label"
            where = label if labelled else "any token"
            said.append(
                f"rows are chosen by sift_criterion={sift.sift_criterion!r} of the model's own "
                f"logits for {where}, at exit layer {sift.sift_exit_layer}, which is not compared "
                "with the loss that is trained on"
            )
        if said:
            logger.warning(f"{own_loss}: {'; '.join(said)}")

    def scorer_for(self, sift: SiftArguments) -> Scorer:
        """A scorer by other settings, with what was learned of the model."""
        return Scorer(
            self.model,
            sift,
            self.label_names,
            self.head,
            self.task,
            self.labels_per_row,
            gives_labels=self.gives_labels,
        )

    def _fails_without_labels(self, scorer: Scorer, probe: Mapping[str, Any]) -> bool:
        """Whether the scoring pass has to give the model what ``scorer`` would withhold."""
        if scorer.adapter is None or not scorer.withheld & set(probe):
            return False
        with inference(self.model), scorer.adapter.at(scorer.exit_layer):
            return not self.agreed(runs(self.forward, scorer.inputs(probe)))

    def _check_loss(
        self, probe: dict[str, Any], own_loss: str | None, trained_loss: TrainedLoss | None
    ) -> None:
        """Refuse to rank by losses that do not make the loss which is trained on."""
        name = type(self.model).__name__
        if trained_loss is None and own_loss is not None:
            return  # a subclass's affair, and said
        exact = SiftArguments(sift_criterion="loss", sift_exit_layer=-1)
        scorer = self.scorer_for(exact)
        losses = scorer(self.forward, probe, torch.Generator())
        counts = self.task.counts(self.task.labels(probe))
        rows = {**probe, **scorer.router_settings}
        trained, outputs = (trained_loss or self._own)(rows, counts.sum())
        scored = self.task.reduce(losses, counts) + self.task.unscored(outputs, probe)
        reason = None if trained is None else why_other_loss(scored, trained, outputs)
        if not self.agreed(reason is None):
            raise ValueError(
                f"{name}: per-sample losses do not make the loss that is trained on"
                f"{f' ({own_loss})' if own_loss else ''}: "
                f"{reason or 'another process found so'}. Use sift_criterion='entropy', or "
                "register_criterion a measure of your own, which is compared with nothing"
            )

    def _own(self, rows: dict[str, Any], count: Tensor) -> tuple[Tensor | None, Any]:
        outputs = self.forward(**rows)
        return loss_of(outputs), outputs

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
        varying = self.compiled is not None and self.labels_per_row is None
        last_block = None if varying else labelled_last_block(self.model, head)
        if last_block is None:
            return head.gather
        with last_block.whole():
            refused = self._why_not(last_block.gather, probe)
        return head.gather if refused else last_block.gather

    def score(self, batch: Mapping[str, Any], generator: torch.Generator) -> Tensor:
        """Scores (B,) of a batch on the model's device; see `Scorer`."""
        assert self.scorer is not None
        static = self.head is None or self.labels_per_row is not None
        forward = self.compiled if static and self.compiled is not None else self.forward
        with inference(self.model):
            return self.scorer(forward, batch, generator)

    @contextmanager
    def labelled_only(self, batch: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The batch to train on, with its labels gathered as the head gathers its positions."""
        if self.gather is None:
            yield batch
            return
        aligned = aligned_labels(batch["labels"], self.shifted)
        positions = scored_positions(aligned, per_row=self.labels_per_row)
        with self.gather(positions, self.shifted):
            yield {**batch, "labels": gathered_labels(positions, self.shifted)}

    def note_lost(self, batch: Mapping[str, Any]) -> None:
        """Count, on the device, the labels of candidates that have more than was promised."""
        labels = batch.get("labels")
        if self.head is not None and self.labels_per_row is not None and labels is not None:
            beyond = (label_counts(labels) - self.labels_per_row).clamp(min=0).sum()
            self._lost = beyond + (0 if self._lost is None else self._lost)

    def check_none_lost(self) -> None:
        """Wait for the device, and see that all labels were scored and trained on.

        Raises:
            ValueError: if a row had more than `labels_per_row`.
        """
        lost = 0 if self._lost is None else int(self._lost)
        if lost:
            raise ValueError(
                f"labels_per_row={self.labels_per_row} of the collator, but {lost} labels of rows "
                "with more were neither scored nor trained on since the last log line; give the "
                "most that a row can have, or None to have them counted"
            )

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
