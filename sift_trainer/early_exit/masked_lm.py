"""Encoders with an MLM head: only the scored positions pass the exit block and the head.

At the exit block of a BERT-like encoder nothing reads the other positions any more, apart from
their keys and values. So queries, attention output and feed-forward are computed at the scored
positions alone, and the head after it sees nothing else: half the cost of scoring at exit 1, with
the same scores.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sift_trainer.early_exit.blocks import BlockStackExit
from sift_trainer.labelled_head import output_embeddings_of

_BERT_BLOCKS = {"BertLayer", "RobertaLayer", "ElectraLayer", "XLMRobertaLayer", "CamembertLayer"}
_DENSE_MASKS = {"sdpa", "eager"}  # other implementations do not hand a mask tensor to the block


class MaskedLMExit(BlockStackExit):
    """A BERT-like encoder with output embeddings."""

    gathers_positions = True

    @staticmethod
    def fits(model: nn.Module, blocks: nn.ModuleList) -> bool:
        """Whether every block is one of the known classes (not a subclass, which may compute
        something else; sharded blocks are such subclasses too), the head is over tokens, and what
        lies between is Transformers' own: a forward of the user's may mix positions."""
        first: Any
        first, *_ = blocks.children()
        if not {type(block).__name__ for block in blocks.children()} <= _BERT_BLOCKS:
            return False
        attention = first.attention.self
        return (
            not attention.is_decoder
            and attention.config._attn_implementation in _DENSE_MASKS
            and type(model).forward.__module__.startswith("transformers.")
            and output_embeddings_of(model) is not None
        )

    def exit_block(self, k: int, positions: Tensor | None) -> Callable[..., Any] | None:
        if positions is None:
            return None
        block = list(self.blocks._modules.values())[k - 1]
        assert block is not None
        return _pruned(block, positions)


def _pruned(block: Any, positions: Tensor) -> Callable[..., Tensor]:
    """``block`` for the flat ``positions`` (N,) only: hidden states (B, T, H) -> (1, N, H)."""

    def forward(hidden: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        attention = block.attention.self
        picked = hidden.flatten(0, 1)[positions]
        context = _attend(
            attention.query(picked),
            attention.key(hidden),
            attention.value(hidden),
            attention_mask,
            positions,
            attention.num_attention_heads,
        )
        attended = block.attention.output(context, picked)
        output: Tensor = block.output(block.intermediate(attended), attended)
        return output.unsqueeze(0)

    return forward


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, positions: Tensor, heads: int
) -> Tensor:
    """Attention of N single queries (N, D), each over its own row of keys (B, T, D) -> (N, D).

    The queries of a row are laid side by side, padded to the longest row.
    """
    batch, length, width = key.shape
    rows, columns = positions // length, positions % length
    counts = rows.bincount(minlength=batch)
    slots = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    longest = int(counts.max())

    queries = query.new_zeros(batch, longest, width)
    queries[rows, slots] = query
    if mask is not None:
        per_query = mask.expand(batch, -1, length, length)[rows, :, columns]
        # Padding may attend anywhere: it is dropped.
        masks = mask.new_ones(batch, longest, mask.shape[1], length)
        masks[rows, slots] = per_query
        mask = masks.transpose(1, 2)

    def split(states: Tensor) -> Tensor:
        return states.view(*states.shape[:2], heads, -1).transpose(1, 2)

    context = functional.scaled_dot_product_attention(
        split(queries), split(key), split(value), attn_mask=mask
    )
    return context.transpose(1, 2).flatten(2)[rows, slots]
