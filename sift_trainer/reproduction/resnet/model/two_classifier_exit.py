"""The ResNet with a classifier of its own at the exit (Appendix G of the paper)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from sift_trainer.early_exit.adapter import ExitAdapter
from sift_trainer.scoring.positions import ScoredPositions


class TwoClassifierExit(ExitAdapter):
    """Two exits: 1, the intermediate classifier alone, and 2 (or -1), the model's exact output.

    The attribute ``exits_early`` of the model decides which of them its forward computes.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.switch: Any = model

    @property
    def depth(self) -> int:
        return 2

    @contextmanager
    def at(self, k: int, positions: ScoredPositions | None = None) -> Iterator[None]:
        before = self.switch.exits_early
        self.switch.exits_early = k == 1
        try:
            yield
        finally:
            self.switch.exits_early = before
