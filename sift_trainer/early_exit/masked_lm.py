"""Encoders with an MLM head: only the scored positions pass the exit block and the head.

At the exit block of a BERT-like encoder nothing reads the other positions any more, apart from
their keys and values. So queries, attention output and feed-forward are computed at the scored
positions alone, and the head after it sees nothing else: half the cost of scoring at exit 1, with
the same scores.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional

from sift_trainer.early_exit.blocks import BlockStackExit
from sift_trainer.labelled_head import LabelledHead, output_embeddings_of

_BERT_BLOCKS = {"BertLayer", "RobertaLayer", "ElectraLayer", "XLMRobertaLayer", "CamembertLayer"}
_DENSE_MASKS = {"sdpa", "eager"}  # other implementations do not hand a mask tensor to the block


class MaskedLMExit(BlockStackExit):
    """A BERT-like encoder with output embeddings."""

    gathers_positions = True

    @staticmethod
    def fits(model: nn.Module, blocks: nn.ModuleList) -> bool:
        """Whether every block is one of the known classes (not a subclass, which may compute
        something else), the head is over tokens, and what lies between is Transformers' own: a
        forward of the user's may mix positions."""
        first: Any
        first, *_ = blocks.children()
        if not {_class_name(block) for block in blocks.children()} <= _BERT_BLOCKS:
            return False
        attention = first.attention.self
        return (
            not attention.is_decoder
            and attention.config._attn_implementation in _DENSE_MASKS
            and type(model).forward.__module__.startswith("transformers.")
            and output_embeddings_of(model) is not None
        )

    def exit_forward(self, k: int, positions: Tensor | None) -> Callable[..., Any] | None:
        if positions is None:
            return None
        block = list(self.blocks._modules.values())[k - 1]
        assert block is not None
        return _pruned(block, positions)


def _class_name(block: nn.Module) -> str:
    """Of the class that a block was built from: FSDP2 puts one of its own in front."""
    return next(cls.__name__ for cls in type(block).__mro__ if not issubclass(cls, FSDPModule))


class LabelledLastBlock:
    """In training: the last block only where something reads it.

    That is at the labelled positions, which the head is given, and at each row's first, which the
    pooler of a next-sentence head reads. Loss and gradients are those of the whole block.
    """

    def __init__(self, adapter: MaskedLMExit, head: LabelledHead) -> None:
        self.adapter = adapter
        self.head = head

    def whole(self) -> AbstractContextManager[None]:
        """All blocks, also within an early exit."""
        return self.adapter.at(self.adapter.depth)

    @contextmanager
    def gather(self, positions: Tensor, shape: torch.Size) -> Iterator[None]:
        """Logits are (1, N, V) at flat ``positions`` (N,), ascending, of ``shape`` (B, T)."""
        read = torch.zeros(shape.numel(), dtype=torch.bool, device=positions.device)
        read[positions] = True
        read[:: shape[1]] = True
        kept = read.nonzero().squeeze(1)
        rows, slots, longest = _side_by_side(kept, shape[0], shape[1])
        places = torch.zeros_like(read, dtype=torch.long)
        places[kept] = rows * longest + slots
        block = list(self.adapter.blocks.children())[-1]
        pruned = _pruned(block, kept, padded=True)
        with self.adapter.ending_in(self.adapter.depth, pruned), self.head.at(places[positions]):
            yield


def _pruned(block: Any, positions: Tensor, padded: bool = False) -> Callable[..., Tensor]:
    """``block`` for the flat ``positions`` (N,) only: hidden states (B, T, H) -> (1, N, H); or,
    ``padded``, (B, longest row, H) with the positions of each row side by side."""

    def forward(hidden: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        attention = block.attention.self
        rows, slots, longest = layout = _side_by_side(positions, *hidden.shape[:2])
        picked = hidden.flatten(0, 1).index_select(0, positions)
        context = _attend(
            attention.query(picked),
            attention.key(hidden),
            attention.value(hidden),
            attention_mask,
            positions,
            layout,
            attention.num_attention_heads,
            attention.dropout.p if block.training else 0.0,
        )
        attended = block.attention.output(context, picked)
        output: Tensor = block.output(block.intermediate(attended), attended)
        if not padded:
            return output.unsqueeze(0)
        laid = output.new_zeros(len(hidden), longest, output.shape[-1])
        laid[rows, slots] = output
        return laid

    return forward


def _side_by_side(positions: Tensor, batch: int, length: int) -> tuple[Tensor, Tensor, int]:
    """Row (N,) and place in the row (N,) of ascending flat positions that are laid side by side in
    each row, and the length of the longest row."""
    rows = positions // length
    counts = rows.bincount(minlength=batch)
    slots = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    return rows, slots, int(counts.max())


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    positions: Tensor,
    layout: tuple[Tensor, Tensor, int],
    heads: int,
    dropout: float,
) -> Tensor:
    """Attention of N single queries (N, D), each over its own row of keys (B, T, D) -> (N, D), laid
    out as `_side_by_side` says."""
    batch, length, width = key.shape
    rows, slots, longest = layout
    queries = query.new_zeros(batch, longest, width)
    queries[rows, slots] = query
    if mask is not None:
        per_query = mask.expand(batch, -1, length, length)[rows, :, positions % length]
        # Padding may attend anywhere: it is dropped.
        masks = mask.new_ones(batch, longest, mask.shape[1], length)
        masks[rows, slots] = per_query
        mask = masks.transpose(1, 2)

    def split(states: Tensor) -> Tensor:
        return states.view(*states.shape[:2], heads, -1).transpose(1, 2)

    context = functional.scaled_dot_product_attention(
        split(queries), split(key), split(value), attn_mask=mask, dropout_p=dropout
    )
    return context.transpose(1, 2).flatten(2)[rows, slots]
