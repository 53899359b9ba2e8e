"""The vocabulary head on labelled positions only: a hook in front of it gathers them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from sift_trainer.scoring.positions import IGNORE_INDEX, ScoredPositions


def output_embeddings_of(model: nn.Module) -> nn.Module | None:
    """The module that projects to the vocabulary; None if a Transformers model has none."""
    # Another library's model may have a ``config`` too.
    if not isinstance(getattr(model, "config", None), PreTrainedConfig):
        return None
    named = getattr(model, "get_output_embeddings", None)
    return None if named is None else named()


# The positions that each head gathers now, by the head's id. They are not an attribute, because
# torch.compile treats the shape of a tensor in a module's hook as fixed: it would compile again for
# each number of labels (test_compatibility.py, test_torch_compile).
_POSITIONS: dict[int, Tensor | None] = {}

# The head in front of each module. If a model is trained again, there must not be a second one.
_HEADS: "WeakKeyDictionary[nn.Module, LabelledHead]" = WeakKeyDictionary()


class LabelledHead:
    """Gathers positions in front of a model's output embeddings while `at` is active."""

    def __init__(self, output_embeddings: nn.Module) -> None:
        # Registered once, not for each pass: torch.compile does not notice later hooks.
        output_embeddings.register_forward_pre_hook(self._gather)

    @staticmethod
    def of(model: nn.Module) -> "LabelledHead | None":
        """The head of a model; None without output embeddings, and for encoder-decoders, whose
        labels are also their inputs."""
        output_embeddings = output_embeddings_of(model)
        if output_embeddings is None or model.config.is_encoder_decoder:  # type: ignore[union-attr]
            return None
        if output_embeddings not in _HEADS:
            _HEADS[output_embeddings] = LabelledHead(output_embeddings)
        return _HEADS[output_embeddings]

    @contextmanager
    def at(self, positions: Tensor | None) -> Iterator[None]:
        """Within the context, logits are (1, N, V) at flat ``positions`` (N,); None: at all."""
        before = self.positions
        _POSITIONS[id(self)] = positions
        try:
            yield
        finally:
            _POSITIONS[id(self)] = before

    @property
    def positions(self) -> Tensor | None:
        """The positions that are gathered now; None: all of them."""
        return _POSITIONS.get(id(self))

    def gather(self, positions: ScoredPositions, shifted: bool) -> AbstractContextManager[None]:
        """Within the context, logits are those that belong to `gathered_labels`."""
        flat = positions.flat
        return self.at(torch.cat([flat, flat[-1:]]) if shifted else flat)

    def _gather(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        positions = self.positions
        if positions is None:
            return None
        gathered = inputs[0].flatten(0, -2).index_select(0, positions)
        return (gathered.unsqueeze(0), *inputs[1:])


def gathered_labels(positions: ScoredPositions, shifted: bool) -> Tensor:
    """Labels (1, M) with which the model's own loss is that of the N predictions. A causal model's
    drops the first label and the last prediction, so M = N + 1 if ``shifted``. Otherwise M = N."""
    labels = positions.targets
    if shifted and len(labels):
        labels = torch.cat([labels.new_full((1,), IGNORE_INDEX), labels])
    return labels.unsqueeze(0)
