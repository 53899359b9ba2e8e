"""The vocabulary head on labelled positions only, in training and in scoring.

Most positions of a masked-language-model batch have no label, yet pass the projection to the
vocabulary, the most expensive product of a small model. A hook in front of the output embeddings
gathers the labelled positions, and the labels are gathered alike, so the model's own loss sees the
same predictions and labels without the ones it ignores.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from sift_trainer.scoring.positions import IGNORE_INDEX, ScoredPositions


def output_embeddings_of(model: nn.Module) -> nn.Module | None:
    """The module that projects to the vocabulary; None where a model has none, or says so in no
    Transformers way (a module of the user's that calls its settings ``config``)."""
    if not isinstance(getattr(model, "config", None), PreTrainedConfig):
        return None
    named = getattr(model, "get_output_embeddings", None)
    return None if named is None else named()


# What each head gathers at the moment, by its id. It is no attribute, because torch.compile takes
# the shape of a tensor that it reaches through a module's hook as fixed: it would compile anew for
# every number of labels (test_compatibility.py, test_torch_compile).
_POSITIONS: dict[int, Tensor] = {}

# The head in front of each module: training a model again must not gather its positions twice.
_HEADS: "WeakKeyDictionary[nn.Module, LabelledHead]" = WeakKeyDictionary()


class LabelledHead:
    """Gathers positions in front of a model's output embeddings while `at` is active."""

    def __init__(self, output_embeddings: nn.Module) -> None:
        # Registered once rather than for each pass: torch.compile does not notice later hooks.
        output_embeddings.register_forward_pre_hook(self._gather)

    @staticmethod
    def of(model: nn.Module) -> "LabelledHead | None":
        """The gathered head of a Transformers model; None where there are no output embeddings,
        and for encoder-decoders, whose labels are also their inputs."""
        output_embeddings = output_embeddings_of(model)
        if output_embeddings is None or model.config.is_encoder_decoder:  # type: ignore[union-attr]
            return None
        if output_embeddings not in _HEADS:
            _HEADS[output_embeddings] = LabelledHead(output_embeddings)
        return _HEADS[output_embeddings]

    @contextmanager
    def at(self, positions: Tensor | None) -> Iterator[None]:
        """Within the context logits are (1, N, V) at flat ``positions`` (N,); None: all."""
        before = self.positions
        self._set(positions)
        try:
            yield
        finally:
            self._set(before)

    def gather(self, positions: ScoredPositions, shifted: bool) -> AbstractContextManager[None]:
        """`at`, for the predictions that `gathered_labels` are the labels of."""
        return self.at(_with_last(positions.flat) if shifted else positions.flat)

    @property
    def positions(self) -> Tensor | None:
        """What is gathered at the moment; None: all."""
        return _POSITIONS.get(id(self))

    def _set(self, positions: Tensor | None) -> None:
        if positions is None:
            _POSITIONS.pop(id(self), None)
        else:
            _POSITIONS[id(self)] = positions

    def _gather(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        positions = self.positions
        if positions is None:
            return None
        hidden = inputs[0]
        gathered = hidden.flatten(0, -2).index_select(0, positions)
        return (gathered.unsqueeze(0), *inputs[1:])


def gathered_labels(positions: ScoredPositions, shifted: bool) -> Tensor:
    """Labels (1, M) that give the model's own loss its N predictions, and no other.

    A causal model's loss drops the first label and the last prediction. So a label that is ignored
    goes in front and one prediction, the last again, behind: M = N + 1; otherwise M = N.
    """
    labels = positions.targets
    if shifted and len(labels):
        labels = torch.cat([labels.new_full((1,), IGNORE_INDEX), labels])
    return labels.unsqueeze(0)


def _with_last(flat: Tensor) -> Tensor:
    """The last position once more, if there is one."""
    return torch.cat([flat, flat[-1:]])
