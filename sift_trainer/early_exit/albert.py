"""ALBERT, which calls a few groups of layers again and again."""

from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from sift_trainer.early_exit.adapter import ExitAdapter
from sift_trainer.early_exit.blocks import replaced_forward
from sift_trainer.scoring.positions import ScoredPositions


class AlbertExit(ExitAdapter):
    """Leaves after the k-th of L calls of a layer group."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.encoder: Any = model.base_model.encoder  # type: ignore[union-attr]

    @property
    def depth(self) -> int:
        return int(self.encoder.config.num_hidden_layers)

    def exit_block(self, k: int) -> nn.Module:
        return self._group(k - 1)

    def _group(self, call: int) -> nn.Module:
        """The layer group of a call, counted from 0."""
        calls_per_group = self.depth / self.encoder.config.num_hidden_groups
        group: nn.Module = self.encoder.albert_layer_groups[int(call / calls_per_group)]
        return group

    def at(self, k: int, positions: ScoredPositions | None = None) -> AbstractContextManager[None]:
        encoder = self.encoder

        def first_calls(hidden_states: Tensor, *arguments: Any, **settings: Any) -> BaseModelOutput:
            hidden = encoder.embedding_hidden_mapping_in(hidden_states)
            for call in range(k):
                hidden = self._group(call)(hidden, *arguments, **settings)
            return BaseModelOutput(last_hidden_state=hidden)

        return replaced_forward(encoder, first_calls)
