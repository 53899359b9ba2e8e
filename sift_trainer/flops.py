"""Floating point operations of BERT with its pre-training heads, for training and for scoring.

All functions return operations per token of a row, with a multiply-add counted as two. Counted are
matrix products, attention included; what is done per element is left out.
"""

from dataclasses import dataclass
from typing import Literal

Computed = Literal["everywhere", "labelled_head", "labelled_block"]
"""Where the end of the model is computed: at all positions; the projection to the vocabulary at
labelled positions only; or head and last (in scoring: exit) block there, its keys and values
excepted."""


@dataclass(frozen=True)
class BertShape:
    """What a BERT costs depends on.

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

    def __post_init__(self) -> None:
        if not 0 < self.label_share <= 1:
            raise ValueError(f"label_share={self.label_share} must be in (0, 1], such as 0.15")

    @property
    def read_share(self) -> float:
        """Share of the tokens that training reads: labelled ones, and the pooler's first."""
        return min(1.0, self.label_share + 1 / self.length)


def block(shape: BertShape, queries: float = 1.0) -> float:
    """One block, with keys and values of all tokens and all else for a share of them."""
    width = shape.hidden_size
    keys_and_values = 2 * 2 * width**2
    query_and_output = 2 * 2 * width**2
    attention = 2 * 2 * shape.length * width
    feed_forward = 2 * 2 * width * shape.intermediate_size
    return keys_and_values + queries * (query_and_output + attention + feed_forward)


def vocabulary_head(shape: BertShape, transformed: float = 1.0, projected: float = 1.0) -> float:
    """The MLM head: its dense transform and its projection to the vocabulary, each for a share."""
    width = shape.hidden_size
    return 2 * width**2 * transformed + 2 * width * shape.vocab_size * projected


def sentence_head(shape: BertShape) -> float:
    """Pooler and next-sentence prediction, once for each row."""
    return (2 * shape.hidden_size**2 + 2 * 2 * shape.hidden_size) / shape.length


def forward(shape: BertShape, computed: Computed = "everywhere") -> float:
    """A training forward; ``everywhere`` is that of the stock Trainer."""
    blocks, read, labelled = shape.num_blocks, shape.read_share, shape.label_share
    if computed == "labelled_block":
        encoder = (blocks - 1) * block(shape) + block(shape, read)
        head = vocabulary_head(shape, read, labelled)
    else:
        encoder = blocks * block(shape)
        head = vocabulary_head(shape, 1.0, 1.0 if computed == "everywhere" else labelled)
    return encoder + head + sentence_head(shape)


def forward_backward(shape: BertShape, computed: Computed = "everywhere") -> float:
    """Forward and backward: each product has two more for the gradients of its factors."""
    return 3 * forward(shape, computed)


def scoring(
    shape: BertShape,
    exit_block: int,
    computed: Computed = "labelled_block",
    token_fraction: float = 1.0,
) -> float:
    """A scoring pass that leaves after block ``exit_block`` (1..L), per token of a candidate.

    ``token_fraction`` is the share of a sample's labelled positions that are scored.

    Raises:
        ValueError: if the model has no such block.
    """
    if not 1 <= exit_block <= shape.num_blocks:
        raise ValueError(f"exit_block={exit_block} must be in 1..{shape.num_blocks}")
    scored = shape.label_share * token_fraction
    if computed == "labelled_block":
        head = vocabulary_head(shape, scored, scored)
        return (exit_block - 1) * block(shape) + block(shape, scored) + head
    head = vocabulary_head(shape, 1.0, 1.0 if computed == "everywhere" else scored)
    return exit_block * block(shape) + head + sentence_head(shape)


def scoring_overhead(
    shape: BertShape,
    exit_block: int,
    keep_ratio: float,
    computed: Computed = "labelled_block",
    token_fraction: float = 1.0,
) -> float:
    """Scoring all candidates over forward and backward of the kept ones, as `sift/overhead`."""
    scored = scoring(shape, exit_block, computed, token_fraction) / keep_ratio
    return scored / forward_backward(shape, computed)


def sifted_step(
    shape: BertShape,
    exit_block: int,
    keep_ratio: float,
    computed: Computed = "labelled_block",
    token_fraction: float = 1.0,
) -> float:
    """A whole step, per token that is trained on: scoring ``1 / keep_ratio`` candidates, then
    forward and backward of the kept one."""
    scored = scoring(shape, exit_block, computed, token_fraction) / keep_ratio
    return scored + forward_backward(shape, computed)
