"""Which predictions of a batch have a label, and which of them are scored."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

IGNORE_INDEX = -100
"""The label that marks a position without one, as in torch and Transformers."""


@dataclass(frozen=True)
class ScoredPositions:
    """The N scored predictions of a batch, in row order, side by side in each row.

    Attributes:
        flat: ``(N,)`` indices into the flattened ``(B * T,)`` predictions.
        rows: ``(N,)`` the sample of each prediction.
        slots: ``(N,)`` its place among the predictions of its row.
        targets: ``(N,)`` its label; -100 for unlabelled predictions that fill up a row.
        shape: (B, T).
        per_row: the largest number of places of a row.
    """

    flat: Tensor
    rows: Tensor
    slots: Tensor
    targets: Tensor
    shape: tuple[int, int]
    per_row: int

    def laid_out(self, values: Tensor) -> Tensor:
        """``values`` (N, ...) of the positions -> (B, per_row, ...), 0 at empty places."""
        laid = values.new_zeros(self.shape[0], self.per_row, *values.shape[1:])
        laid[self.rows, self.slots] = values
        return laid

    def with_first(self) -> "ScoredPositions":
        """These positions, with the first position of each row in front of its others: (B + N,)."""
        first = torch.arange(self.shape[0], device=self.flat.device)
        return ScoredPositions(
            torch.cat([first * self.shape[1], self.flat]),
            torch.cat([first, self.rows]),
            torch.cat([torch.zeros_like(first), self.slots + 1]),
            torch.cat([torch.full_like(first, IGNORE_INDEX), self.targets]),
            self.shape,
            self.per_row + 1,
        )


def next_token_labels(labels: Tensor) -> Tensor:
    """Align a causal model's labels (B, T) with its logits: prediction t is of token t + 1."""
    return functional.pad(labels[..., 1:], (0, 1), value=IGNORE_INDEX)


def aligned_labels(labels: Tensor, shifted: bool) -> Tensor:
    """Labels aligned with the logits. One label per sample (B,) is never shifted."""
    return next_token_labels(labels) if shifted and labels.dim() > 1 else labels


def scored_positions(
    labels: Tensor,
    fraction: float = 1.0,
    generator: torch.Generator | None = None,
    per_row: int | None = None,
) -> ScoredPositions:
    """The labelled positions of ``labels`` (B,) or (B, T), or a random share of each sample's.

    The host has to wait for the device to count them. With ``per_row`` it does not wait: there are
    always B * per_row positions, so compiled graphs can be reused too.

    Args:
        labels: aligned with the logits; -100 marks positions without a label.
        fraction: share of a sample's labelled positions to take, rounded, at least one.
        generator: on the CPU, draws the subset.
        per_row: the most labels of a row, if that is known; only that many are taken.
    """
    labelled = labels.reshape(len(labels), -1) != IGNORE_INDEX
    batch, length = labelled.shape
    if labels.dim() == 1:
        per_row = 1
    if fraction < 1.0:
        labelled = _subset(labelled, fraction, generator)
        per_row = per_row and max(1, round(per_row * fraction))
    if per_row is None:
        flat = labelled.flatten().nonzero().squeeze(1)
        rows = flat // length
        counts = labelled.sum(dim=1)
        slots = torch.arange(len(flat), device=flat.device) - (counts.cumsum(0) - counts)[rows]
        targets = labels.flatten()[flat]
        return ScoredPositions(flat, rows, slots, targets, (batch, length), int(counts.max()))
    per_row = min(per_row, length)
    columns = (~labelled).byte().sort(dim=1, stable=True).indices[:, :per_row]  # labelled first
    places = torch.arange(batch * per_row, device=labels.device)
    rows = places // per_row
    flat = rows * length + columns.flatten()
    targets = labels.flatten()[flat].masked_fill(~labelled.flatten()[flat], IGNORE_INDEX)
    return ScoredPositions(flat, rows, places % per_row, targets, (batch, length), per_row)


def _subset(labelled: Tensor, fraction: float, generator: torch.Generator | None) -> Tensor:
    """A uniform subset of fixed size of the True entries in each row of ``labelled`` (B, T)."""
    keys = torch.rand(labelled.shape, generator=generator).to(labelled.device, non_blocking=True)
    rank = keys.masked_fill(~labelled, 2.0).argsort(dim=1).argsort(dim=1)
    size = (labelled.sum(dim=1) * fraction).round().clamp(min=1)
    return labelled & (rank < size[:, None])


def label_counts(labels: Tensor) -> Tensor:
    """Number of labelled positions of each sample: (B,) or (B, T) -> (B,)."""
    return (labels.reshape(len(labels), -1) != IGNORE_INDEX).sum(dim=1)
