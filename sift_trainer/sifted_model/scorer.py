"""One model's scoring pass: batch in, per-sample scores out."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from sift_trainer.arguments import SiftArguments
from sift_trainer.early_exit import ExitAdapter, exit_at
from sift_trainer.scoring.criteria import CRITERIA, score_positions
from sift_trainer.scoring.positions import scored_positions
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
        if self.criterion.state is not None:
            self.withheld |= set(self.criterion.state.columns)
        self.head = None if needed else facts.head  # needed labels are those of all positions
        self.adapter: ExitAdapter | None = None
        if self.criterion.values is not None:
            self.values = self.task.values(self.criterion)
            self.adapter, self.exit_layer = exit_at(model, sift.sift_exit_layer)
        self.router_settings = router_settings(model)

    def __call__(
        self, forward: Callable[..., Any], batch: Mapping[str, Any], generator: torch.Generator
    ) -> Tensor:
        """Scores (B,) in fp32 of a batch on the model's device. ``forward`` is the model or its
        forward, within `inference`; the generator is on the CPU."""
        if self.adapter is None:
            rows = next(v for v in batch.values() if isinstance(v, Tensor) and v.dim())
            return torch.rand(len(rows), generator=generator).to(rows.device, non_blocking=True)
        check_labels(self.name, self.task, batch)
        labels = self.task.labels(batch) if self.task.labelled(batch) else None
        if self.head is None or labels is None:
            with self.adapter.at(self.exit_layer):
                outputs = forward(**self.inputs(batch))
            logits = self.task.logits(outputs, batch, self.adapter.logits)
            if labels is None:
                labels = self.task.unlabelled(logits, batch)  # all predictions except padding
            return self.task.scores(self.criterion, logits, labels, self.token_fraction, generator)
        positions = scored_positions(labels, self.token_fraction, generator, self.labels_per_row)
        # The pruned exit works only for models with which the labelled-only head works.
        prune = self.adapter.gathers_positions and labels.dim() > 1
        # Without labels the first positions are computed, unused: processes with sharded parameters
        # must all call the same modules.
        passing = positions if len(positions.flat) else positions.with_first()
        head = nullcontext() if prune else self.head.at(passing.flat)
        with self.adapter.at(self.exit_layer, passing if prune else None), head:
            logits = self.adapter.logits(forward(**self.inputs(batch)))
        logits = logits.flatten(0, -2)[: len(positions.flat)]
        return score_positions(self.values, logits, positions)

    def inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of the scoring pass, without labels that the model does not need."""
        inputs = {name: value for name, value in batch.items() if name not in self.withheld}
        return {**inputs, **self.router_settings}
