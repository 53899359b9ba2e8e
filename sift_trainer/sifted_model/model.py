"""The model of one run: scoring its batches, and training on labelled positions only."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sift_trainer.arguments import SiftArguments, columns_of, is_gated
from sift_trainer.early_exit.adapter import logits_of
from sift_trainer.early_exit.labelled_head import gathered_labels
from sift_trainer.scoring.class_ids import ClassIds
from sift_trainer.scoring.criteria import (
    CRITERIA,
    LOSS,
    UNLABELLED,
    Samples,
    StatefulCriterion,
    score_positions,
)
from sift_trainer.scoring.positions import (
    IGNORE_INDEX,
    ScoredPositions,
    aligned_labels,
    label_counts,
    scored_positions,
)
from sift_trainer.selection.padding import by_length, without_padding
from sift_trainer.selection.rows import take_rows
from sift_trainer.sifted_model.facts import ModelFacts, ModelPasses
from sift_trainer.sifted_model.no_trace import inference
from sift_trainer.sifted_model.probe_model import probe_model
from sift_trainer.sifted_model.scorer import Scored, Scorer
from sift_trainer.sifted_model.scoring_share import scoring_share
from sift_trainer.sifted_model.trained_loss import TrainedLoss

LENGTH_GROUPS = 2  # groups of candidates of similar length, which are scored apart


@dataclass(frozen=True)
class Candidates:
    """Scored candidates.

    Attributes:
        scores: ``(B,)`` in fp32, to select by.
        features: ``(B, F)`` for the criterion to learn from; None without any.
    """

    scores: Tensor
    features: Tensor | None = None


class SiftedModel:
    """The model of one run, called by ``passes``, with the ``facts`` that `probe_model` found.

    Attributes:
        criterion: the run's criterion with a state, which the trainer sets; None without one.
        scoring_share: operations of scoring over those of forward and backward, in a step that
            sifts; None before a labelled batch, and where nothing depends on it.
    """

    criterion: StatefulCriterion | None = None
    scoring_share: float | None = None

    def __init__(self, passes: ModelPasses, facts: ModelFacts, sift: SiftArguments) -> None:
        self.passes, self.facts, self.sift = passes, facts, sift
        self.module = passes.module
        self.scorer = self.scorer_for(sift) if sift.sift_keep_ratio < 1 else None
        self._columns = columns_of(sift)
        self._positions: ScoredPositions | None = None  # of the batch in training
        self._dropped_labels: Tensor | int = 0  # on the device, once labels are counted

    @property
    def trims(self) -> bool:
        """Whether padding that no sample needs is cut off. Compiled graphs are for one width."""
        return self.facts.trims and self.passes.compiled is None

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
        found = cls(passes, facts, sift)
        wanted = is_gated(sift) or CRITERIA[sift.sift_criterion].state is not None
        if batch is not None and facts.known and found.scorer and found.scorer.adapter and wanted:
            share = scoring_share(passes, facts.task, found.scorer, found.labelled_only, batch)
            found.scoring_share = share / sift.sift_keep_ratio
        return found

    def scorer_for(self, sift: SiftArguments) -> Scorer:
        """A scorer with other settings."""
        return Scorer(self.module, self.facts, sift)

    def score(
        self, batch: Mapping[str, Any], generator: torch.Generator, scorer: Scorer | None = None
    ) -> Tensor:
        """Scores (B,) in fp32 of a batch on the model's device, by the scoring pass of the run or
        by a ``scorer`` from `scorer_for`."""
        return self._scored(batch, generator, scorer).scores

    def score_candidates(
        self,
        batch: Mapping[str, Any],
        generator: torch.Generator,
        scorer: Scorer | None = None,
        criterion: StatefulCriterion | None = None,
    ) -> Candidates:
        """What the candidates in a batch on the model's device are selected by, in the run or by
        another ``scorer`` and ``criterion``. Samples of similar length are scored together, so that
        less padding is."""
        criterion = criterion if scorer else self.criterion
        groups = by_length(batch, LENGTH_GROUPS) if self.trims else None
        if groups is None:
            scores, features = self._pass(batch, generator, scorer, criterion)
        else:
            parts_of = [without_padding(take_rows(batch, group)) for group in groups]
            found = [self._pass(part, generator, scorer, criterion) for part in parts_of]
            back = torch.cat(groups).argsort()
            scores = torch.cat([each for each, _ in found])[back]
            parts = [each for _, each in found if each is not None]
            features = torch.cat(parts)[back] if parts else None
        if criterion is not None:
            with torch.no_grad():
                samples = Samples(batch, scores, self._labels(batch), features)
                chosen_by = criterion.scores(samples)
            scores = chosen_by.float().to(scores.device).reshape(-1)
        if self.sift.sift_reference_column is not None:
            reference = batch[self.sift.sift_reference_column].to(scores).reshape(-1)
            scores = torch.where(scores > UNLABELLED, scores - reference, scores)
        return Candidates(scores, features)

    def _pass(
        self,
        batch: Mapping[str, Any],
        generator: torch.Generator,
        scorer: Scorer | None,
        criterion: StatefulCriterion | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Scores (B,) of the scoring pass, and features (B, F) of the criterion."""
        scored = self._scored(batch, generator, scorer)
        if criterion is None:
            return scored.scores, None
        with torch.no_grad():
            samples = Samples(batch, scored.scores, scored.labels)
            return scored.scores, criterion.features(samples, scored.states)

    def _labels(self, batch: Mapping[str, Any]) -> Tensor | None:
        task = self.facts.task
        return task.labels(batch) if task.labelled(batch) else None

    def learn(
        self,
        batch: Mapping[str, Any],
        losses: Tensor,
        features: Tensor | None,
        criterion: StatefulCriterion | None = None,
    ) -> None:
        """Let the criterion, by default the run's, learn from the losses (k,) of the samples in a
        batch."""
        criterion = criterion or self.criterion
        if criterion is not None:
            criterion.learn(Samples(batch, losses.detach(), self._labels(batch), features))

    def _scored(
        self, batch: Mapping[str, Any], generator: torch.Generator, scorer: Scorer | None = None
    ) -> Scored:
        scorer = scorer or self.scorer or self.scorer_for(self.sift)
        # A graph for each number of labels would be slower than no graph.
        static = self.facts.head is None or self.facts.labels_per_row is not None
        compiled = self.passes.compiled if static else None
        forward = self.passes.forward if compiled is None else compiled
        with inference(self.module):
            return scorer.scored(forward, batch, generator)

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

    def sample_losses(
        self, outputs: Any, batch: Mapping[str, Any], needed: bool = True
    ) -> Tensor | None:
        """Losses (B,) of the samples of a batch on the model's device; ``outputs`` are of the batch
        from `labelled_only`, within its context. If they are ``needed``, they have a gradient. If
        not, None where the outputs do not show them."""
        if needed:
            return self._sample_losses(outputs, batch)
        try:
            with torch.no_grad():
                return self._sample_losses(outputs, batch)
        except (ValueError, TypeError, KeyError, RuntimeError, AttributeError):
            return None  # outputs of a loss that only training can compute

    def _sample_losses(self, outputs: Any, batch: Mapping[str, Any]) -> Tensor:
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
