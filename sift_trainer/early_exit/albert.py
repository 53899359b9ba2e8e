"""ALBERT: one block, or a few, called again and again."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from torch import nn

from sift_trainer.early_exit.adapter import ExitAdapter
from sift_trainer.scoring.positions import ScoredPositions


class AlbertExit(ExitAdapter):
    """Leaves after the k-th of L calls of a layer group."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.encoder: Any = model.base_model.encoder  # type: ignore[union-attr]

    @property
    def depth(self) -> int:
        return int(self.encoder.config.num_hidden_layers)

    @contextmanager
    def at(self, k: int, positions: ScoredPositions | None = None) -> Iterator[None]:
        before = self.encoder.config
        truncated = copy(before)  # the rest of the model keeps the one that it was built from
        truncated.num_hidden_layers = _Calls(k, before.num_hidden_layers)
        self.encoder.config = truncated
        try:
            yield
        finally:
            self.encoder.config = before


class _Calls(int):
    """k calls to loop over, which divide by the number of groups as all L do: the model reckons
    from that quotient which group a call is of."""

    whole: int

    def __new__(cls, k: int, whole: int) -> "_Calls":
        calls = super().__new__(cls, k)
        calls.whole = int(whole)
        return calls

    def __truediv__(self, groups: float) -> float:
        return self.whole / groups
