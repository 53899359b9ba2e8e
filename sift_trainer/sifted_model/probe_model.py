"""Finding out facts about a model with the first batch, once per run."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from transformers.utils import logging

from sift_trainer.arguments import (
    SiftArguments,
    scores_with_model,
    uses_sample_losses,
    wants_masked_only_head,
)
from sift_trainer.early_exit import ExitAdapter, exit_at
from sift_trainer.early_exit.exit_states import StateRecorder
from sift_trainer.early_exit.labelled_head import LabelledHead
from sift_trainer.early_exit.registry import labelled_last_block
from sift_trainer.scoring.class_ids import ClassIds
from sift_trainer.scoring.criteria import CRITERIA
from sift_trainer.scoring.positions import IGNORE_INDEX, aligned_labels, label_counts
from sift_trainer.scoring.task import Task
from sift_trainer.selection.choosing import SELECTORS
from sift_trainer.selection.rows import num_rows
from sift_trainer.sifted_model.facts import CLASS_IDS, ModelFacts, ModelPasses
from sift_trainer.sifted_model.model_calls import (
    Gather,
    divides_by_count,
    ignores_padding,
    loss_of,
    rows_with_finite_loss,
    runs_with,
    shifts_labels,
    why_not_gathered,
    why_other_loss,
)
from sift_trainer.sifted_model.no_trace import inference
from sift_trainer.sifted_model.scorer import Scorer, labels_are_inputs
from sift_trainer.sifted_model.trained_loss import TrainedLoss

logger = logging.get_logger(__name__)

Agree = Callable[[bool], bool]
"""Whether an answer is true on all processes, which call it together."""


def probe_model(
    passes: ModelPasses,
    batch: Mapping[str, Any] | None,
    sift: SiftArguments,
    *,
    task: Task = CLASS_IDS,
    trained_loss: TrainedLoss | None = None,
    label_names: Sequence[str] = ("labels",),
    labels_per_row: int | None = None,
    all_agree: Agree = bool,
) -> ModelFacts:
    """Find out how a model behaves by calls on a few rows of its first batch; it stays unchanged.

    Args:
        batch: on the model's device; None if it has no labels.
        trained_loss: the loss that is trained on; None: the model's own.

    Raises:
        ValueError: if the criterion has no meaning for the task, or per-sample losses do not make
            the loss that is trained on.
    """
    facts = ModelFacts(
        task,
        tuple(label_names),
        labels_per_row,
        known=batch is None,
        head=LabelledHead.of(passes.module) if wants_masked_only_head(sift) else None,
    )
    probe = _Probe(passes, sift, trained_loss or TrainedLoss(), all_agree)
    if batch is not None:
        facts = probe.with_calls_on(facts, batch)
    probe.warn_of_replaced_loss(facts)
    return facts


class _Probe:
    """The calls of `probe_model`."""

    def __init__(
        self, passes: ModelPasses, sift: SiftArguments, trained_loss: TrainedLoss, all_agree: Agree
    ) -> None:
        self.passes, self.model, self.forward = passes, passes.module, passes.forward
        self.sift, self.trained_loss, self.all_agree = sift, trained_loss, all_agree
        self.scores = scores_with_model(sift)

    def with_calls_on(self, facts: ModelFacts, batch: Mapping[str, Any]) -> ModelFacts:
        """The facts with what calls on rows of this batch show."""
        labels = facts.task.labels(batch) if self.scores else batch[facts.task.fields[0]]
        adapter, k = exit_at(self.model, self.sift.sift_exit_layer) if self.scores else (None, 0)
        # At the exit, which is cheap: the results are those of the whole model.
        with inference(self.model), adapter.at(k) if adapter else nullcontext():
            counts = facts.task.counts(labels) if self.scores else label_counts(labels)
            rows = rows_with_finite_loss(self.forward, batch, counts, all_agree=self.all_agree)
            if rows is None:
                return facts
            facts = self._of_labels(replace(facts, known=True), rows)
            state = CRITERIA[self.sift.sift_criterion].state
            if adapter is not None and state is not None and state.reads_states:
                of_samples = self._has_states_of_samples(adapter, k, rows)
                facts = replace(facts, states_of_samples=of_samples)
        if self.sift.sift_keep_ratio < 1 and self._fails_without_labels(facts, rows):
            facts = replace(facts, needs_labels=True)
        with inference(self.model):
            facts = replace(facts, trims=self.all_agree(ignores_padding(self.forward, batch)))
        if self.scores and self.sift.sift_image_scale < 1:
            self._check_image_scale(facts, rows)
        by_loss = self.scores and CRITERIA[self.sift.sift_criterion].is_loss
        if by_loss or uses_sample_losses(self.sift):
            with inference(self.model):
                self._check_trained_loss(facts, rows)
        return facts

    def _of_labels(self, facts: ModelFacts, rows: dict[str, Any]) -> ModelFacts:
        """Whether it shifts its labels, divides by their count, and can skip positions."""
        class_ids = isinstance(facts.task, ClassIds) and "labels" in facts.task.fields
        if class_ids and not labels_are_inputs(self.model):
            shifted = self.all_agree(shifts_labels(self.forward, rows))
            facts = replace(facts, task=replace(facts.task, shifted=shifted))  # type: ignore[type-var]
        own_loss = self.trained_loss.replaced_by is None
        if own_loss and self.trained_loss.takes_count and "labels" in rows:
            divides = self.all_agree(divides_by_count(self.forward, rows))
            facts = replace(facts, divides_by_count=divides)
        if facts.head is None or not class_ids or rows["labels"].dim() < 2:
            return replace(facts, head=None)  # one prediction per sample: none can be skipped
        reason = self._why_not(facts, facts.head.gather, rows)
        if reason is not None:
            logger.warning(
                f"{type(self.model).__name__} {'trains' if own_loss else 'scores'} with its head "
                f"on all positions, not only on the labelled ones: {reason}"
            )
            return replace(facts, head=None)
        return replace(facts, gather=self._gather(facts, rows)) if own_loss else facts

    def _why_not(self, facts: ModelFacts, gather: Gather, rows: Mapping[str, Any]) -> str | None:
        """Why ``gather`` is not used; None if it is. All processes must decide alike."""
        labels = aligned_labels(rows["labels"], facts.shifted)
        if not self.all_agree(bool((labels != IGNORE_INDEX).any())):
            return "the first batch has no labelled position to compare at"
        reason = why_not_gathered(self.forward, rows, gather, labels, facts.shifted)
        if self.all_agree(reason is None):
            return None
        return reason or "it differs on another process"

    def _gather(self, facts: ModelFacts, rows: Mapping[str, Any]) -> Gather:
        """Last block and head on labelled positions, or the head alone."""
        assert facts.head is not None
        varying = self.passes.compiled is not None and facts.labels_per_row is None
        last_block = None if varying else labelled_last_block(self.model, facts.head)
        if last_block is None:
            return facts.head.gather
        with last_block.whole():
            refused = self._why_not(facts, last_block.gather, rows)
        return facts.head.gather if refused else last_block.gather

    def _fails_without_labels(self, facts: ModelFacts, rows: Mapping[str, Any]) -> bool:
        """Whether the model fails without the labels that the scoring pass withholds."""
        scorer = Scorer(self.model, facts, self.sift)
        if scorer.adapter is None or not scorer.withheld & set(rows):
            return False
        with inference(self.model), scorer.adapter.at(scorer.exit_layer):
            return not self.all_agree(runs_with(self.forward, scorer.inputs(rows)))

    def _has_states_of_samples(self, adapter: ExitAdapter, k: int, rows: Mapping[str, Any]) -> bool:
        """Whether the states at the exit have the samples in the first dimension: not in XLNet. All
        processes must decide alike."""
        block = adapter.exit_block(k)
        if block is None:
            return False
        recorder = StateRecorder.of(block)
        with recorder.recording():
            self.forward(**rows)
            states = recorder.states
        samples = num_rows(rows)
        return self.all_agree(
            states is not None and len(states) == samples and states.shape[1:2] != (samples,)
        )

    def _check_image_scale(self, facts: ModelFacts, rows: Mapping[str, Any]) -> None:
        """Refuse smaller images if there are none, or if the model does not take them."""
        scorer, scale = Scorer(self.model, facts, self.sift), self.sift.sift_image_scale
        smaller = scorer.inputs(rows)
        if all(value is rows[name] for name, value in smaller.items() if name in rows):
            raise ValueError(
                f"sift_image_scale={scale} scales images (B, C, H, W), and the batch has none: its "
                f"fields are {sorted(rows)}; use sift_image_scale=1.0"
            )
        assert scorer.adapter is not None
        with inference(self.model), scorer.adapter.at(scorer.exit_layer):
            if not self.all_agree(runs_with(self.forward, smaller)):
                raise ValueError(
                    f"{type(self.model).__name__} does not take images at sift_image_scale={scale} "
                    "of their size; use sift_image_scale=1.0, or a model for images of any size"
                )

    def _check_trained_loss(self, facts: ModelFacts, rows: dict[str, Any]) -> None:
        """Refuse per-sample losses that do not add up to the loss that is trained on."""
        replaced_by, of_rows = self.trained_loss.replaced_by, self.trained_loss.of_rows
        if replaced_by is not None and of_rows is None:
            if uses_sample_losses(self.sift):
                raise ValueError(
                    f"sift_criterion={self.sift.sift_criterion!r} with sift_selector="
                    f"{self.sift.sift_selector!r} needs the loss of each sample in training, but "
                    f"{replaced_by}; use sift_criterion='loss' with sift_selector='top_k'"
                )
            return  # only training can compute it; `warn_of_replaced_loss` warns of that
        exact = SiftArguments(sift_criterion="loss", sift_exit_layer=-1)
        scorer = Scorer(self.model, facts, exact)
        weighted = SELECTORS[self.sift.sift_selector].weighted
        if scorer.router_settings and weighted and replaced_by is None:
            raise ValueError(
                f"sift_selector={self.sift.sift_selector!r} weights the loss of each sample, but "
                f"output_router_logits=True of {type(self.model).__name__} adds a loss of its "
                "routers, which belongs to a batch; set output_router_logits=False in the model's "
                "config, or use sift_selector='top_k'"
            )
        losses = scorer(self.forward, rows, torch.Generator())
        task = facts.task
        counts = task.counts(task.labels(rows))
        given = {**rows, **scorer.router_settings}
        if of_rows is None:
            outputs = self.forward(**given)
            trained = loss_of(outputs)
        else:
            trained, outputs = of_rows(given, counts.sum())
        scored = task.reduce(losses, counts) + task.unscored(outputs, rows)
        reason = None if trained is None else why_other_loss(scored, trained, outputs)
        if not self.all_agree(reason is None):
            raise ValueError(
                f"{type(self.model).__name__}: per-sample losses do not add up to the loss that is "
                f"trained on{f' ({replaced_by})' if replaced_by else ''}: "
                f"{reason or 'they differ on another process'}. Use sift_criterion='entropy', or "
                "a criterion of your own (register_criterion), which is not compared with the loss"
            )

    def warn_of_replaced_loss(self, facts: ModelFacts) -> None:
        """Warn how samples are scored if the trained loss is another one than the model's."""
        if self.trained_loss.replaced_by is None or not facts.known:
            return
        warnings = ["it gets the kept samples with all their positions"] if facts.head else []
        if self.scores and self.trained_loss.of_rows is None:
            warnings.append(
                f"samples are chosen by sift_criterion={self.sift.sift_criterion!r} of the model's "
                f"own logits at exit layer {self.sift.sift_exit_layer}, which is not compared with "
                "the loss that is trained on"
            )
        if warnings:
            logger.warning(f"{self.trained_loss.replaced_by}: {'; '.join(warnings)}")
