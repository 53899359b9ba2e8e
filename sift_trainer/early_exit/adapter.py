"""What scoring needs from a model: leave after block k and apply the model's own head."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from torch import Tensor, nn

from sift_trainer.scoring.positions import ScoredPositions


class ExitAdapter(ABC):
    """How one architecture leaves early, to subclass for `register_exit`. ``model`` is the bare
    module: not compiled or wrapped."""

    gathers_positions: ClassVar[bool] = False
    """Whether `at` takes ``positions`` and returns logits (1, N, C) at those positions only."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    @abstractmethod
    def depth(self) -> int:
        """Number of blocks L; exits are 1..L."""

    def resolve(self, k: int) -> int:
        """``k`` as a block number in 1..L, as `check_exit` does."""
        return check_exit(k, self.depth, type(self.model).__name__)

    @abstractmethod
    def at(self, k: int, positions: ScoredPositions | None = None) -> AbstractContextManager[None]:
        """While active, calling the model runs blocks 1..k, then its final norm and head.

        ``positions`` are given only if `gathers_positions`.
        """

    def exit_block(self, k: int) -> nn.Module | None:
        """The module whose output are the hidden states at exit k; None if that is not known."""
        return None

    def logits(self, outputs: Any) -> Tensor:
        """The predictions in what the model returned."""
        return logits_of(outputs, type(self.model).__name__)


class WholeModel(ExitAdapter):
    """A model of which only the last exit is known: all of it runs."""

    depth = 1

    def at(self, k: int, positions: ScoredPositions | None = None) -> AbstractContextManager[None]:
        return nullcontext()


def logits_of(outputs: Any, name: str) -> Tensor:
    """``outputs['logits']``, or the first tensor in ``outputs`` that is not a loss; a ValueError
    with the ``name`` of the model if there is none."""
    logits: Any = outputs
    if isinstance(outputs, Mapping):
        named = {key: value for key, value in outputs.items() if key != "loss"}
        logits = named.get("logits", next(iter(named.values()), None))
    elif isinstance(outputs, (tuple, list)):
        logits = next(
            (value for value in outputs if isinstance(value, Tensor) and value.dim()), None
        )
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"{name} returned no logits to score; return a mapping with 'logits', or override "
            "ExitAdapter.logits"
        )
    return logits


def check_exit(k: int, depth: int, name: str) -> int:
    """``k`` as a block number in 1..depth, with -1 for the last; else a ValueError."""
    if k == -1:
        return depth
    if not 1 <= k <= depth:
        raise ValueError(
            f"exit layer {k} is not in {name}: it has {depth} blocks, so use 1..{depth}, or -1 for "
            "the last"
        )
    return k
