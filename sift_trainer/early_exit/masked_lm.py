"""Encoders with an MLM head: only the scored positions pass the exit block and the head."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional

from sift_trainer.early_exit.blocks import BlockStackExit
from sift_trainer.early_exit.labelled_head import LabelledHead, output_embeddings_of
from sift_trainer.scoring.positions import ScoredPositions

_BERT_BLOCKS = {"BertLayer", "RobertaLayer", "ElectraLayer", "XLMRobertaLayer", "CamembertLayer"}
_DENSE_MASKS = {"sdpa", "eager"}  # other implementations do not hand a mask tensor to the block


class MaskedLMExit(BlockStackExit):
    """A BERT-like encoder with output embeddings."""

    gathers_positions = True

    @staticmethod
    def fits(model: nn.Module, blocks: nn.ModuleList) -> bool:
        """Whether blocks and forward are Transformers' own, as others may compute something else,
        and the model has output embeddings."""
        if not {_class_name(block) for block in blocks.children()} <= _BERT_BLOCKS:
            return False
        first: Any = blocks[0]
        attention = first.attention.self
        return (
            not attention.is_decoder
            and attention.config._attn_implementation in _DENSE_MASKS
            and type(model).forward.__module__.startswith("transformers.")
            and output_embeddings_of(model) is not None
        )

    def at(self, k: int, positions: ScoredPositions | None = None) -> AbstractContextManager[None]:
        pruned = None if positions is None else _pruned(self.exit_block(k), positions)
        return self.ending_in(k, pruned)


def _class_name(block: nn.Module) -> str:
    """The class that a block was built from: FSDP2 puts a class of its own in front."""
    return next(cls.__name__ for cls in type(block).__mro__ if not issubclass(cls, FSDPModule))


class LabelledLastBlock:
    """In training: the last block only at the labelled positions, and at the first of each row,
    which the pooler of a next-sentence head reads."""

    def __init__(self, adapter: MaskedLMExit, head: LabelledHead) -> None:
        self.adapter = adapter
        self.head = head

    def whole(self) -> AbstractContextManager[None]:
        """Within the context all blocks run, also within an early exit."""
        return self.adapter.at(self.adapter.depth)

    @contextmanager
    def gather(self, positions: ScoredPositions, shifted: bool) -> Iterator[None]:
        """Within the context, logits are (1, N, V) at ``positions``."""
        read = positions.with_first()
        places = positions.rows * read.per_row + positions.slots + 1
        block = list(self.adapter.blocks.children())[-1]
        pruned = _pruned(block, read, laid_out=True)
        with self.adapter.ending_in(self.adapter.depth, pruned), self.head.at(places):
            yield


def _pruned(
    block: Any, positions: ScoredPositions, laid_out: bool = False
) -> Callable[..., Tensor]:
    """A forward of ``block`` for the N ``positions`` only: hidden states (B, T, H) -> (1, N, H), or
    with ``laid_out`` (B, per_row, H), the positions of each row side by side."""

    def forward(hidden: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        attention = block.attention.self
        picked = hidden.flatten(0, 1).index_select(0, positions.flat)
        context = _attend(attention, picked, hidden, attention_mask, positions)
        attended = block.attention.output(context, picked)
        output: Tensor = block.output(block.intermediate(attended), attended)
        return positions.laid_out(output) if laid_out else output.unsqueeze(0)

    return forward


def _attend(
    attention: Any, picked: Tensor, hidden: Tensor, mask: Tensor | None, positions: ScoredPositions
) -> Tensor:
    """Attention of N states (N, D), each over its own row of ``hidden`` (B, T, D) -> (N, D)."""
    if mask is not None:
        batch, length = positions.shape
        columns = positions.flat % length
        allowed = mask.expand(batch, -1, length, length)[positions.rows, :, columns]
        # Padding of a row may attend anywhere: its output is dropped.
        forbidden = positions.laid_out(~allowed if mask.dtype == torch.bool else allowed)
        mask = (~forbidden if mask.dtype == torch.bool else forbidden).transpose(1, 2)

    def split(states: Tensor) -> Tensor:
        return states.view(*states.shape[:2], attention.num_attention_heads, -1).transpose(1, 2)

    context = functional.scaled_dot_product_attention(
        split(positions.laid_out(attention.query(picked))),
        split(attention.key(hidden)),
        split(attention.value(hidden)),
        attn_mask=mask,
        dropout_p=attention.dropout.p if attention.training else 0.0,
    )
    return context.transpose(1, 2).flatten(2)[positions.rows, positions.slots]
