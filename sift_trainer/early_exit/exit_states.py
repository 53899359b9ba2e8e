"""The hidden states at the exit, noted by a hook behind the exit block."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from sift_trainer.scoring.criteria import SampleStates
from sift_trainer.scoring.positions import IGNORE_INDEX, ScoredPositions

# Active recorders, by id, and what they noted. As in `labelled_head`, torch.compile must see hooks
# that are there from the beginning and no tensor in a module's attribute.
_NOTED: dict[int, Tensor | None] = {}

_RECORDERS: "WeakKeyDictionary[nn.Module, StateRecorder]" = WeakKeyDictionary()


class StateRecorder:
    """Notes the output of a block while `recording` is active."""

    def __init__(self, block: nn.Module) -> None:
        block.register_forward_hook(self._note)

    @staticmethod
    def of(block: nn.Module) -> "StateRecorder":
        """The recorder of a block; a second hook on the same block would do the work twice."""
        if block not in _RECORDERS:
            _RECORDERS[block] = StateRecorder(block)
        return _RECORDERS[block]

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within the context, `states` is the last output of the block."""
        _NOTED[id(self)] = None
        try:
            yield
        finally:
            del _NOTED[id(self)]

    @property
    def states(self) -> Tensor | None:
        """What the block returned last; None if that was no tensor."""
        return _NOTED.get(id(self))

    def _note(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if id(self) in _NOTED:
            first = output[0] if isinstance(output, (tuple, list)) else output
            _NOTED[id(self)] = first.detach() if isinstance(first, Tensor) else None


def sample_states(
    states: Tensor | None,
    samples: int,
    labels: Tensor | None,
    mask: Any,
    positions: ScoredPositions | None = None,
) -> SampleStates | None:
    """The states of each sample at the positions that it is scored by, else at all.

    Args:
        states: ``(1, N, d)`` at ``positions`` if these are given; else ``(B, T, d)``, ``(B, d)`` or
            ``(B, channels, height, width)``.
        samples: B.
        labels: ``(B, T)`` with -100 where no loss is; labels of another shape do not count.
        mask: ``(B, T)`` with 0 at padding; anything else does not count.

    Returns:
        None if the samples are not the first dimension.
    """
    if states is None:
        return None
    if positions is not None:
        labelled = (positions.targets != IGNORE_INDEX).to(states.dtype)
        return SampleStates(positions.laid_out(states[0]), positions.laid_out(labelled))
    if len(states) != samples or not 2 <= states.dim() <= 4:
        return None
    if states.dim() == 4:
        states = states.flatten(2).transpose(1, 2)
    if states.dim() == 2:
        states = states.unsqueeze(1)
    weights = states.new_ones(states.shape[:2])
    if labels is not None and labels.shape == weights.shape:
        weights = (labels != IGNORE_INDEX).to(states.dtype)
    elif isinstance(mask, Tensor) and mask.shape == weights.shape:
        weights = (mask != 0).to(states.dtype)
    return SampleStates(states, weights)
