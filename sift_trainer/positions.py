"""Which predictions of a batch have a label, and which of them are scored."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

IGNORE_INDEX = -100
"""The label that marks a position without one, as in torch and Transformers."""


@dataclass(frozen=True)
class ScoredPositions:
    """The N scored predictions of a batch of ``num_rows`` samples, in row order.

    Attributes:
        flat: ``(N,)`` indices into the flattened ``(B * T,)`` predictions.
        rows: ``(N,)`` the sample that each belongs to.
        targets: ``(N,)`` the label of each.
        num_rows: B.
    """

    flat: Tensor
    rows: Tensor
    targets: Tensor
    num_rows: int


def next_token_labels(labels: Tensor) -> Tensor:
    """Align a causal model's labels (B, T) with its logits: position t predicts token t + 1."""
    return functional.pad(labels[..., 1:], (0, 1), value=IGNORE_INDEX)


def aligned_labels(labels: Tensor, shifted: bool) -> Tensor:
    """Labels aligned with the logits: of a model that shifts them the next tokens', else as they
    are; one label per sample (B,) is never shifted."""
    return next_token_labels(labels) if shifted and labels.dim() > 1 else labels


def scored_positions(
    labels: Tensor, fraction: float = 1.0, generator: torch.Generator | None = None
) -> ScoredPositions:
    """The labelled positions of ``labels`` (B,) or (B, T), or a random share of each sample's.

    Args:
        labels: aligned with the logits; -100 marks positions without a label.
        fraction: share of a sample's labelled positions to take, rounded, at least one.
        generator: CPU generator that draws the subset; not touched when ``fraction`` is 1.
    """
    labelled = labels.reshape(len(labels), -1) != IGNORE_INDEX
    if fraction < 1.0:
        labelled = _subset(labelled, fraction, generator)
    flat = labelled.flatten().nonzero().squeeze(1)
    rows = flat // labelled.shape[1]
    return ScoredPositions(flat, rows, labels.flatten()[flat], len(labels))


def _subset(labelled: Tensor, fraction: float, generator: torch.Generator | None) -> Tensor:
    """A uniform subset of fixed size of the True entries in each row of ``labelled`` (B, T)."""
    keys = torch.rand(labelled.shape, generator=generator).to(labelled.device)
    rank = keys.masked_fill(~labelled, 2.0).argsort(dim=1).argsort(dim=1)
    size = (labelled.sum(dim=1) * fraction).round().clamp(min=1)
    return labelled & (rank < size[:, None])


def label_counts(labels: Tensor) -> Tensor:
    """Number of labelled positions of each sample: (B,) or (B, T) -> (B,)."""
    return (labels.reshape(len(labels), -1) != IGNORE_INDEX).sum(dim=1)
