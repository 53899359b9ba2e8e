"""Floating point operations of matrix products in BERT with its pre-training heads."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForPreTraining

from sift_trainer.early_exit import exit_adapter
from sift_trainer.early_exit.labelled_head import LabelledHead
from sift_trainer.early_exit.masked_lm import LabelledLastBlock
from sift_trainer.scoring.positions import ScoredPositions

Computed = Literal["everywhere", "labelled_head", "labelled_block"]
"""Positions at which the end of the model is computed: all; or labelled ones only, for the
projection to the vocabulary alone or for the last block (in scoring: the exit block) too."""

_ROWS = 64  # so many that a share of labels such as 0.15 is hardly rounded


class BertShape(NamedTuple):
    """What the operations of a BERT depend on.

    Attributes:
        length: tokens of a row.
        label_share: share of the tokens that have a label.
    """

    hidden_size: int
    intermediate_size: int
    num_blocks: int
    vocab_size: int
    length: int
    label_share: float

    @classmethod
    def of(cls, config: BertConfig, length: int, label_share: float) -> "BertShape":
        depth, inner = config.num_hidden_layers, config.intermediate_size
        return cls(config.hidden_size, inner, depth, config.vocab_size, length, label_share)


class _ShapesOnly:
    """A `BertForPreTraining` without weights, and a batch of full rows without data."""

    def __init__(self, shape: BertShape, label_share: float) -> None:
        labels = round(label_share * _ROWS * shape.length)
        with torch.device("meta"):
            self.model = BertForPreTraining(
                BertConfig(
                    hidden_size=shape.hidden_size,
                    intermediate_size=shape.intermediate_size,
                    num_hidden_layers=shape.num_blocks,
                    num_attention_heads=1,  # their number does not change the operations
                    vocab_size=shape.vocab_size,
                    max_position_embeddings=shape.length,
                )
            )
            self._ids = torch.zeros(_ROWS, shape.length, dtype=torch.long)
            index = torch.zeros(labels, dtype=torch.long)
        size, per_row = (_ROWS, shape.length), -(-labels // _ROWS)
        self._positions = ScoredPositions(index, index, index, index, size, per_row)
        self._adapter: Any = exit_adapter(self.model)
        self._head: Any = LabelledHead.of(self.model)

    def loss(self, computed: Computed) -> Tensor:
        context: AbstractContextManager[None] = nullcontext()
        labels = torch.zeros_like(self._ids)
        if computed != "everywhere":
            whole = computed == "labelled_head"
            narrow = self._head if whole else LabelledLastBlock(self._adapter, self._head)
            context = narrow.gather(self._positions, shifted=False)
            labels = self._positions.targets.unsqueeze(0)
        with context:
            output = self.model.train()(
                input_ids=self._ids,
                token_type_ids=torch.zeros_like(self._ids),
                labels=labels,
                next_sentence_label=torch.zeros_like(self._ids[:, 0]),
            )
        loss: Tensor = output.loss
        return loss

    def score(self, exit_block: int, computed: Computed) -> None:
        positions = None if computed == "everywhere" else self._positions
        with torch.no_grad(), self._adapter.at(self._adapter.resolve(exit_block), positions):
            self.model.eval()(input_ids=self._ids)


def flops_of(call: Callable[[], Any]) -> int:
    """Operations of all matrix products and convolutions in ``call()``.

    A multiply-add counts as two. Attention runs as plain products: the counter does not know the
    fused kernel of a CPU.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


@cache
def forward_backward(shape: BertShape, computed: Computed = "everywhere") -> float:
    """Forward and backward, in operations per token of a row that is trained on."""
    bert = _ShapesOnly(shape, shape.label_share)
    operations = flops_of(lambda: bert.loss(computed).backward())  # type: ignore[no-untyped-call]
    return operations / (_ROWS * shape.length)


@cache
def scoring(
    shape: BertShape,
    exit_block: int,
    computed: Computed = "labelled_block",
    token_fraction: float = 1.0,
) -> float:
    """A scoring pass, in operations per token of a candidate.

    Raises:
        ValueError: if the model has no block ``exit_block``, of 1..L or -1.
    """
    bert = _ShapesOnly(shape, shape.label_share * token_fraction)
    return flops_of(lambda: bert.score(exit_block, computed)) / (_ROWS * shape.length)
