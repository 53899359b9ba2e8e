"""One model's scoring pass: batch in, per-sample scores out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from sift_trainer.arguments import SiftArguments
from sift_trainer.early_exit import ExitAdapter, exit_adapter
from sift_trainer.early_exit.adapter import check_exit
from sift_trainer.labelled_head import LabelledHead
from sift_trainer.positions import (
    IGNORE_INDEX,
    ScoredPositions,
    aligned_labels,
    scored_positions,
)
from sift_trainer.scoring import CRITERIA, score_positions


def labels_are_inputs(model: nn.Module) -> bool:
    """Whether the model makes its decoder's inputs from the labels, as encoder-decoders do."""
    config = getattr(model, "config", None)
    return isinstance(config, PreTrainedConfig) and bool(config.is_encoder_decoder)


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradient that leaves no trace: the mode of every submodule and the
    global random state are afterwards as they were, also after an exception, and BatchNorm's
    running statistics do not move."""
    training = [module for module in model.modules() if module.training]
    devices = {parameter.device for parameter in model.parameters()} - {torch.device("cpu")}
    kind = next(iter(devices)).type if devices else "cuda"
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(list(devices), device_type=kind):
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
        shifted: whether its predictions are compared with the next label.

    Raises:
        ValueError: at construction, if no early exit fits the model or it is not that deep.
    """

    def __init__(
        self,
        model: nn.Module,
        sift: SiftArguments,
        label_names: list[str],
        head: LabelledHead | None,
        shifted: bool = False,
    ) -> None:
        self.criterion = CRITERIA[sift.sift_criterion]
        self.token_fraction = sift.sift_token_fraction
        self.label_names = {*label_names, "labels"}
        self.shifted = shifted
        self.head = head
        self.adapter: ExitAdapter | None = None
        if self.criterion is not None:
            self.adapter = exit_adapter(model)
            self.exit_layer = check_exit(
                sift.sift_exit_layer, self.adapter.depth, type(model).__name__
            )
        self.labels_are_inputs = labels_are_inputs(model)

    def __call__(
        self, forward: Callable[..., Any], batch: Mapping[str, Any], generator: torch.Generator
    ) -> Tensor:
        """Scores (B,) in fp32 on the model's device.

        Args:
            forward: the model, or its forward, in the state of `inference`.
            batch: fields on the model's device, with ``labels`` (B,) or (B, T) where the criterion
                reads them.
            generator: CPU generator for the token subset and the random control.

        Raises:
            ValueError: for a batch that the criterion cannot score.
        """
        if self.criterion is None or self.adapter is None:
            rows = next(v for v in batch.values() if isinstance(v, Tensor) and v.dim())
            return torch.rand(len(rows), generator=generator).to(rows.device, non_blocking=True)
        labels = batch.get("labels")
        if labels is None:
            return self._without_labels(forward, batch, generator)
        labels = self.aligned(labels)
        positions = scored_positions(labels, self.token_fraction, generator)
        logits = self._logits(forward, batch, labels, positions)
        return score_positions(self.criterion, logits, positions)

    def aligned(self, labels: Tensor) -> Tensor:
        """``labels`` aligned with the logits."""
        if labels.is_floating_point():
            raise ValueError(
                f"labels are {labels.dtype}, but the scores are over classes; give integer class "
                "ids, or sift_criterion='random'"
            )
        return aligned_labels(labels, self.shifted)

    def _logits(
        self,
        forward: Callable[..., Any],
        batch: Mapping[str, Any],
        labels: Tensor,
        positions: ScoredPositions,
    ) -> Tensor:
        """Logits (N, C) at the scored positions."""
        assert self.adapter is not None
        # A model that cannot take the labelled-only head cannot take the pruned exit before it.
        prune = self.head is not None and self.adapter.gathers_positions and labels.dim() > 1
        # Without a label one position passes for nothing: all processes have to call the same
        # modules where their parameters are sharded.
        flat = positions.flat if len(positions.flat) else positions.flat.new_zeros(1)
        head = self.head.at(flat) if self.head is not None and not prune else nullcontext()
        with self.adapter.at(self.exit_layer, flat if prune else None), head:
            logits = self.adapter.logits(forward(**self._inputs(batch)))
        if self.head is not None:
            return logits.flatten(0, -2)[: len(positions.flat)]
        if logits.shape[:-1] != labels.shape:
            raise ValueError(
                f"labels of shape {tuple(labels.shape)} do not fit logits of shape "
                f"{tuple(logits.shape)}; the score needs one class id per prediction"
            )
        return logits.flatten(0, -2)[positions.flat]

    def _without_labels(
        self, forward: Callable[..., Any], batch: Mapping[str, Any], generator: torch.Generator
    ) -> Tensor:
        """Entropy needs no labels: the mean over all positions that are not padding."""
        assert self.adapter is not None
        assert self.criterion is not None
        if self.criterion is not CRITERIA["entropy"]:
            raise ValueError(
                f"the batch has no 'labels' (its fields: {sorted(batch)}), which this "
                "sift_criterion needs; add labels or use sift_criterion='entropy'"
            )
        with self.adapter.at(self.exit_layer):
            logits = self.adapter.logits(forward(**self._inputs(batch)))
        everywhere = logits.new_zeros(logits.shape[:-1], dtype=torch.long)
        mask = batch.get("attention_mask")
        if mask is not None and mask.shape == everywhere.shape:
            everywhere = everywhere.masked_fill(mask == 0, IGNORE_INDEX)
        positions = scored_positions(everywhere, self.token_fraction, generator)
        return score_positions(self.criterion, logits.flatten(0, -2)[positions.flat], positions)

    def _inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What the scoring pass feeds the model: no labels, so that it computes no loss."""
        if self.labels_are_inputs:
            return dict(batch)
        return {name: value for name, value in batch.items() if name not in self.label_names}
