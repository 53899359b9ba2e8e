"""One model's scoring pass: batch in, per-sample scores out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from sift_trainer.arguments import SiftArguments
from sift_trainer.batch import needed_fields
from sift_trainer.early_exit import ExitAdapter, exit_at
from sift_trainer.labelled_head import LabelledHead
from sift_trainer.positions import ScoredPositions, scored_positions
from sift_trainer.random_state import random_state_kept
from sift_trainer.scoring import CRITERIA, score_positions
from sift_trainer.tasks import ClassIds, Task


def labels_are_inputs(model: nn.Module) -> bool:
    """Whether the model makes its decoder's inputs from the labels, as encoder-decoders do."""
    config = getattr(model, "config", None)
    return isinstance(config, PreTrainedConfig) and bool(config.is_encoder_decoder)


def router_settings(model: nn.Module) -> dict[str, bool]:
    """What keeps the routers' auxiliary loss out of a mixture of experts' forward: it belongs to a
    batch, not to a sample."""
    config = getattr(model, "config", None)
    routed = isinstance(config, PreTrainedConfig) and getattr(config, "output_router_logits", False)
    return {"output_router_logits": False} if routed else {}


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradient that leaves no trace: the mode of every submodule and the
    global random states (Python's, NumPy's, torch's) are afterwards as they were, also after an
    exception, and BatchNorm's running statistics do not move."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad(), random_state_kept(each.device for each in model.parameters()):
            yield
    finally:
        for module in training:
            module.training = True


class Scorer:
    """Scores batches with a model truncated to its first ``sift_exit_layer`` blocks.

    Args:
        model: the bare module.
        sift: criterion, exit layer, token fraction.
        label_names: the batch fields that hold labels.
        head: its labelled-only head; None to pass all positions through exit block and head.
        task: what it predicts.
        labels_per_row: the most labels of a row, where that is known.
        gives_labels: whether the model gets its labels though its signature does not ask for them.

    Raises:
        ValueError: at construction, if no early exit fits the model, it is not that deep, or the
            criterion has no meaning for the task.
    """

    def __init__(
        self,
        model: nn.Module,
        sift: SiftArguments,
        label_names: list[str],
        head: LabelledHead | None,
        task: Task | None = None,
        labels_per_row: int | None = None,
        gives_labels: bool = False,
    ) -> None:
        self.labels_per_row = labels_per_row
        self.criterion = sift.sift_criterion
        self.token_fraction = sift.sift_token_fraction
        self.task = task or ClassIds()
        names = {*label_names, *self.task.fields}
        needed = names if gives_labels else names & set(needed_fields(model))
        self.withheld = set() if labels_are_inputs(model) else names - needed
        self.head = None if needed else head  # which would get the labels of all positions
        self.adapter: ExitAdapter | None = None
        if CRITERIA[self.criterion] is not None:
            self.task.criterion(self.criterion)
            self.adapter, self.exit_layer = exit_at(model, sift.sift_exit_layer)
        self.router_settings = router_settings(model)

    def __call__(
        self, forward: Callable[..., Any], batch: Mapping[str, Any], generator: torch.Generator
    ) -> Tensor:
        """Scores (B,) in fp32 on the model's device.

        Args:
            forward: the model, or its forward, in the state of `inference`.
            batch: fields on the model's device, with the task's labels where the criterion reads
                them.
            generator: CPU generator for the token subset and the random control.

        Raises:
            ValueError: for a batch that the criterion cannot score.
        """
        if self.adapter is None:
            rows = next(v for v in batch.values() if isinstance(v, Tensor) and v.dim())
            return torch.rand(len(rows), generator=generator).to(rows.device, non_blocking=True)
        labels = self._labels(batch)
        if self.head is not None and labels is not None:
            positions = scored_positions(
                labels, self.token_fraction, generator, self.labels_per_row
            )
            logits = self._logits(forward, batch, labels, positions)
            return score_positions(self.task.criterion(self.criterion), logits, positions)
        with self.adapter.at(self.exit_layer):
            outputs = forward(**self.inputs(batch))
        logits = self.task.logits(outputs, batch, self.adapter.logits)
        if labels is None:
            labels = self.task.unlabelled(logits, batch)
        return self.task.scores(self.criterion, logits, labels, self.token_fraction, generator)

    def _labels(self, batch: Mapping[str, Any]) -> Tensor | None:
        """The task's labels; None if there are none and none are needed: entropy goes over all
        predictions that are not padding then."""
        if self.task.labelled(batch):
            return self.task.labels(batch)
        if self.criterion != "entropy":
            raise ValueError(
                f"the batch has no {' and '.join(map(repr, self.task.fields))} (its fields: "
                f"{sorted(batch)}), which this sift_criterion needs; add labels or use "
                "sift_criterion='entropy'"
            )
        return None

    def _logits(
        self,
        forward: Callable[..., Any],
        batch: Mapping[str, Any],
        labels: Tensor,
        positions: ScoredPositions,
    ) -> Tensor:
        """Logits (N, C) at the scored positions, of the labelled-only head."""
        assert self.adapter is not None
        assert self.head is not None
        # A model that cannot take the labelled-only head cannot take the pruned exit before it.
        prune = self.adapter.gathers_positions and labels.dim() > 1
        # Without a label one position passes for nothing: all processes have to call the same
        # modules where their parameters are sharded.
        passing = positions if len(positions.flat) else positions.with_first()
        head = nullcontext() if prune else self.head.at(passing.flat)
        with self.adapter.at(self.exit_layer, passing if prune else None), head:
            logits = self.adapter.logits(forward(**self.inputs(batch)))
        return logits.flatten(0, -2)[: len(positions.flat)]

    def inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What the scoring pass feeds the model: no labels that it can do without, so that it
        computes no loss."""
        inputs = {name: value for name, value in batch.items() if name not in self.withheld}
        return {**inputs, **self.router_settings}
