"""One model's scoring pass: batch in, per-sample scores out."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig

from sift_trainer.arguments import SiftArguments, columns_of
from sift_trainer.early_exit import ExitAdapter, exit_at
from sift_trainer.early_exit.exit_states import StateRecorder, sample_states
from sift_trainer.early_exit.labelled_head import LabelledHead
from sift_trainer.scoring.criteria import CRITERIA, SampleStates, score_positions
from sift_trainer.scoring.positions import ScoredPositions, scored_positions
from sift_trainer.sifted_model.facts import ModelFacts
from sift_trainer.sifted_model.fields import check_labels, needed_fields


def labels_are_inputs(model: nn.Module) -> bool:
    """Whether the model makes its decoder's inputs from the labels."""
    config = getattr(model, "config", None)
    return isinstance(config, PreTrainedConfig) and bool(config.is_encoder_decoder)


def router_settings(model: nn.Module) -> dict[str, bool]:
    """Inputs that turn off the auxiliary loss of a mixture of experts' routers: it belongs to a
    batch, not to a sample."""
    config = getattr(model, "config", None)
    routed = isinstance(config, PreTrainedConfig) and getattr(config, "output_router_logits", False)
    return {"output_router_logits": False} if routed else {}


@dataclass(frozen=True)
class Scored:
    """What a scoring pass found.

    Attributes:
        scores: ``(B,)`` in fp32.
        labels: ``(B, ...)`` what the loss compares the predictions with; None without labels.
        states: at the exit; None if the criterion does not read them or the exit is not known.
    """

    scores: Tensor
    labels: Tensor | None = None
    states: SampleStates | None = None


class Scorer:
    """Scores batches with the bare ``model`` truncated to its first ``sift_exit_layer`` blocks. A
    ValueError at construction, if it has no such exit or the task has no such criterion."""

    def __init__(self, model: nn.Module, facts: ModelFacts, sift: SiftArguments) -> None:
        self.task, self.labels_per_row = facts.task, facts.labels_per_row
        self.name, self.criterion = sift.sift_criterion, CRITERIA[sift.sift_criterion]
        self.token_fraction = sift.sift_token_fraction
        names = {*facts.label_names, *self.task.fields}
        needed = names if facts.needs_labels else names & set(needed_fields(model))
        self.withheld = set() if labels_are_inputs(model) else names - needed
        self.withheld |= set(columns_of(sift))
        self.head = None if needed else facts.head  # needed labels are those of all positions
        self.adapter: ExitAdapter | None = None
        if self.criterion.values is not None:
            self.values = self.task.values(self.criterion)
            self.adapter, self.exit_layer = exit_at(model, sift.sift_exit_layer)
        self.recorder: StateRecorder | None = None
        if self.adapter is not None and self.criterion.state and self.criterion.state.reads_states:
            block = self.adapter.exit_block(self.exit_layer)
            if block is not None and facts.states_of_samples:
                self.recorder = StateRecorder.of(block)
        self.router_settings = router_settings(model)
        self.image_scale = sift.sift_image_scale

    def __call__(
        self, forward: Callable[..., Any], batch: Mapping[str, Any], generator: torch.Generator
    ) -> Tensor:
        """Scores (B,) in fp32 of a batch on the model's device. ``forward`` is the model or its
        forward, within `inference`; the generator is on the CPU."""
        return self.scored(forward, batch, generator).scores

    def scored(
        self, forward: Callable[..., Any], batch: Mapping[str, Any], generator: torch.Generator
    ) -> Scored:
        """The scores, as calling it gives them, and what a criterion with a state needs."""
        if self.adapter is None:
            rows = next(v for v in batch.values() if isinstance(v, Tensor) and v.dim())
            drawn = torch.rand(len(rows), generator=generator)
            labels = self.task.labels(batch) if self.task.labelled(batch) else None
            return Scored(drawn.to(rows.device, non_blocking=True), labels)
        check_labels(self.name, self.task, batch)
        labels = self.task.labels(batch) if self.task.labelled(batch) else None
        with self.recorder.recording() if self.recorder else nullcontext():
            if self.head is None or labels is None:
                return self._at_all_positions(self.adapter, forward, batch, labels, generator)
            return self._at_labels(self.adapter, self.head, forward, batch, labels, generator)

    def _at_all_positions(
        self,
        adapter: ExitAdapter,
        forward: Callable[..., Any],
        batch: Mapping[str, Any],
        labels: Tensor | None,
        generator: torch.Generator,
    ) -> Scored:
        with adapter.at(self.exit_layer):
            outputs = forward(**self.inputs(batch))
        logits = self.task.logits(outputs, batch, adapter.logits)
        scored = labels
        if scored is None:
            scored = self.task.unlabelled(logits, batch)  # all predictions except padding
        scores = self.task.scores(self.criterion, logits, scored, self.token_fraction, generator)
        return Scored(scores, labels, self._states(batch, len(scores), scored))

    def _at_labels(
        self,
        adapter: ExitAdapter,
        head: LabelledHead,
        forward: Callable[..., Any],
        batch: Mapping[str, Any],
        labels: Tensor,
        generator: torch.Generator,
    ) -> Scored:
        positions = scored_positions(labels, self.token_fraction, generator, self.labels_per_row)
        # The pruned exit works only for models with which the labelled-only head works.
        prune = adapter.gathers_positions and labels.dim() > 1
        # Without labels the first positions are computed, unused: processes with sharded parameters
        # must all call the same modules.
        passing = positions if len(positions.flat) else positions.with_first()
        gathered = nullcontext() if prune else head.at(passing.flat)
        with adapter.at(self.exit_layer, passing if prune else None), gathered:
            logits = adapter.logits(forward(**self.inputs(batch)))
        logits = logits.flatten(0, -2)[: len(positions.flat)]
        scores = score_positions(self.values, logits, positions)
        return Scored(
            scores, labels, self._states(batch, len(scores), labels, passing if prune else None)
        )

    def _states(
        self,
        batch: Mapping[str, Any],
        samples: int,
        labels: Tensor | None,
        positions: ScoredPositions | None = None,
    ) -> SampleStates | None:
        if self.recorder is None:
            return None
        mask = batch.get("attention_mask")
        return sample_states(self.recorder.states, samples, labels, mask, positions)

    def inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of the scoring pass, without labels that the model does not need."""
        inputs = {name: value for name, value in batch.items() if name not in self.withheld}
        if self.image_scale < 1:
            inputs = {name: self._smaller(value) for name, value in inputs.items()}
        return {**inputs, **self.router_settings}

    def _smaller(self, value: Any) -> Any:
        """Images (B, C, H, W) at the scale of the scoring pass; other fields as they are."""
        if not isinstance(value, Tensor) or value.dim() != 4 or not value.is_floating_point():
            return value
        size = [max(1, round(side * self.image_scale)) for side in value.shape[2:]]
        return functional.interpolate(value, size, mode="bilinear", antialias=True)
