"""The model of one run: scoring its batches, and training on labelled positions only."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sift_trainer.arguments import SiftArguments
from sift_trainer.early_exit.adapter import logits_of
from sift_trainer.early_exit.labelled_head import gathered_labels
from sift_trainer.scoring.class_ids import ClassIds
from sift_trainer.scoring.criteria import CRITERIA, LOSS, score_positions
from sift_trainer.scoring.positions import (
    IGNORE_INDEX,
    ScoredPositions,
    aligned_labels,
    label_counts,
    scored_positions,
)
from sift_trainer.sifted_model.facts import ModelFacts, ModelPasses
from sift_trainer.sifted_model.no_trace import inference
from sift_trainer.sifted_model.probe_model import probe_model
from sift_trainer.sifted_model.scorer import Scorer
from sift_trainer.sifted_model.trained_loss import TrainedLoss


class SiftedModel:
    """The model of one run, called by ``passes``, with the ``facts`` that `probe_model` found."""

    def __init__(self, passes: ModelPasses, facts: ModelFacts, sift: SiftArguments) -> None:
        self.passes, self.facts, self.sift = passes, facts, sift
        self.module = passes.module
        self.scorer = self.scorer_for(sift) if sift.sift_keep_ratio < 1 else None
        criterion = CRITERIA[sift.sift_criterion]
        self._columns = criterion.state.columns if criterion.state else ()
        self._positions: ScoredPositions | None = None  # of the batch in training
        self._dropped_labels: Tensor | int = 0  # on the device, once labels are counted

    @classmethod
    def probed(
        cls,
        passes: ModelPasses,
        batch: Mapping[str, Any] | None,
        sift: SiftArguments,
        trained_loss: TrainedLoss | None = None,
        **details: Any,
    ) -> "SiftedModel":
        """The model with the facts from `probe_model`, whose arguments and errors this has."""
        if trained_loss is not None and trained_loss.replaced_by is not None:
            passes = passes.with_known_fields()  # the loss may read other fields
        facts = probe_model(passes, batch, sift, trained_loss=trained_loss, **details)
        return cls(passes, facts, sift)

    def scorer_for(self, sift: SiftArguments) -> Scorer:
        """A scorer with other settings."""
        return Scorer(self.module, self.facts, sift)

    def score(
        self, batch: Mapping[str, Any], generator: torch.Generator, scorer: Scorer | None = None
    ) -> Tensor:
        """Scores (B,) in fp32 of a batch on the model's device, by the settings of the run or by
        a ``scorer`` from `scorer_for`."""
        scorer = scorer or self.scorer or self.scorer_for(self.sift)
        # A graph for each number of labels would be slower than no graph.
        static = self.facts.head is None or self.facts.labels_per_row is not None
        compiled = self.passes.compiled if static else None
        forward = self.passes.forward if compiled is None else compiled
        with inference(self.module):
            return scorer(forward, batch, generator)

    @contextmanager
    def labelled_only(self, batch: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Within the context, the model computes labelled positions only. Gives the batch to train
        on: with the gathered labels, and without the columns of the criterion."""
        facts = self.facts
        if self._columns:
            batch = {name: batch[name] for name in batch if name not in self._columns}
        if facts.gather is None:
            yield batch
            return
        aligned = aligned_labels(batch["labels"], facts.shifted)
        positions = scored_positions(aligned, per_row=facts.labels_per_row)
        self._positions = positions
        try:
            with facts.gather(positions, facts.shifted):
                yield {**batch, "labels": gathered_labels(positions, facts.shifted)}
        finally:
            self._positions = None

    def sample_losses(self, outputs: Any, batch: Mapping[str, Any]) -> Tensor:
        """Losses (B,) of the samples of a batch on the model's device, with gradient; ``outputs``
        are of the batch from `labelled_only`, within its context."""
        task = self.facts.task
        adapter = self.scorer.adapter if self.scorer else None
        find = adapter.logits if adapter else partial(logits_of, name="the model")
        if self._positions is not None:
            logits = find(outputs).flatten(0, -2)[: len(self._positions.flat)]
            return score_positions(task.values(LOSS), logits, self._positions)
        logits, labels = task.logits(outputs, batch, find), task.labels(batch)
        if isinstance(task, ClassIds) and logits.dim() == labels.dim() == 2 and labels.shape[1] > 1:
            # A model that computes labelled positions only by itself, in training.
            return score_positions(task.values(LOSS), logits, scored_positions(labels))
        return task.scores(LOSS, logits, labels)

    def weighted(
        self, loss: Tensor, losses: Tensor, weights: Tensor, outputs: Any, batch: Mapping[str, Any]
    ) -> Tensor:
        """The ``loss`` of a batch with weights (B,) for the ``losses`` (B,) of its samples: it is
        ``factor * (sum of shares) + unscored``, and the factor is kept."""
        task = self.facts.task
        shares = task.shares(losses, outputs, batch)
        unscored = task.unscored(outputs, batch)
        factor = (loss - unscored).detach() / shares.sum().detach().clamp(min=1e-12)
        rest = task.unscored(outputs, batch, weights) - unscored
        return loss + factor * (shares * (weights - 1)).sum() + rest

    # ---- labels ----

    def count_dropped_labels(self, batch: Mapping[str, Any]) -> None:
        """Count the labels beyond ``labels_per_row``, without waiting for the device."""
        labels, most = batch.get("labels"), self.facts.labels_per_row
        if self.facts.head is not None and most is not None and labels is not None:
            self._dropped_labels += (label_counts(labels) - most).clamp(min=0).sum()

    def check_no_dropped_labels(self) -> None:
        """Wait for the device; raise a ValueError if a sample had more than ``labels_per_row``."""
        if dropped := int(self._dropped_labels):
            raise ValueError(
                f"labels_per_row={self.facts.labels_per_row} of the collator is too small: "
                f"{dropped} labels of samples with more were neither scored nor trained on since "
                "the last log line; set the most that a sample can have, or None"
            )

    def countable_labels(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The labels that the loss sums over, for the Trainer's count: for some causal models
        (GPT-2) it counts the first label, which is no target."""
        if "shift_labels" in batch:
            return {name: batch[name] for name in ("labels", "shift_labels")}
        labels = batch["labels"]
        if self.facts.shifted and labels.dim() > 1:
            labels = labels.clone()
            labels[..., 0] = IGNORE_INDEX
        return {"labels": labels}
