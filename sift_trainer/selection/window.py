"""The micro-batches of one update, and what was selected from them."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sift_trainer.selection.rows import Batch


@dataclass(frozen=True)
class Selection:
    """The kept samples of one micro-batch.

    Attributes:
        rows: ``(k,)`` indices of the kept samples, ascending.
        candidates: number of samples that were drawn, B.
        scores: ``(B,)`` their scores; None if they were not scored.
        weights: ``(k,)`` weights in the loss; None for equal weights.
        features: ``(k, F)`` of the kept samples, for the criterion to learn from.
        chosen: ``(k,)`` indices that the selector chooses by the scores; None if they were not
            scored. A step that sifts keeps them: it is the same tensor as ``rows``. Another step
            keeps the first samples, and the gate learns from these what choosing would bring.
    """

    rows: Tensor
    candidates: int
    scores: Tensor | None = None
    weights: Tensor | None = None
    features: Tensor | None = None
    chosen: Tensor | None = None

    @property
    def sifts(self) -> bool:
        """Whether the samples were chosen by their scores."""
        return self.chosen is self.rows

    @classmethod
    def of_all(cls, candidates: int) -> "Selection":
        """A selection that keeps all candidates."""
        return cls(torch.arange(candidates), candidates)


@dataclass
class Window:
    """The micro-batches between two updates, all scored at the first one.

    Attributes:
        batches: candidates before the selection, the kept samples after it.
        selections: one for each batch; None before the selection.
        num_items: number of labels of the kept samples, which the model's loss divides by.
        trained: the batch in training now, if its sample losses are used.
        losses_read: whether the losses of its samples were found.
    """

    batches: list[Batch] = field(default_factory=list)
    selections: list[Selection] | None = None
    num_items: Tensor | int | None = None
    trained: Batch | None = None
    losses_read: bool = False

    def index_of(self, batch: Batch) -> int | None:
        """The place of this batch object; None if it is not of this window."""
        return next((i for i, each in enumerate(self.batches) if each is batch), None)

    def selection_of(self, batch: Batch) -> Selection:
        """The selection from a batch of this window, after the selection."""
        index = self.index_of(batch)
        assert index is not None
        assert self.selections is not None
        return self.selections[index]
