"""Masking in numbers: shares within four standard deviations of the binomial, labels exactly."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import (
    BertTokenizerFast,
    default_data_collator,
)

from sift_trainer.reproduction.corpus.masking import FixedMasks, PairCollator, mask_tokens
from sift_trainer.reproduction.corpus.vocabulary import SPECIAL_TOKENS

torch.set_num_threads(1)  # two threads only wait for each other on rows this small

PAD, UNK, CLS, SEP, MASK = range(5)
VOCAB = 100


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    words = [*SPECIAL_TOKENS, *(f"w{i}" for i in range(VOCAB - 5))]
    return BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Rows as `write_shard` has them."""
    generator = np.random.default_rng(0)
    rows = []
    for i, (first, second) in enumerate(generator.integers(3, 14, size=(64, 2)).tolist()):
        a, b = (generator.integers(5, VOCAB, size=n).tolist() for n in (first, second))
        rows.append(
            {
                "input_ids": [CLS, *a, SEP, *b, SEP],
                "token_type_ids": [0] * (first + 2) + [1] * (second + 1),
                "next_sentence_label": i % 2,
            }
        )
    return Dataset.from_list(rows)


def _rows(dataset: Dataset, start: int = 0, stop: int = 16) -> list[dict[str, Any]]:
    return [dataset[i] for i in range(start, stop)]


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def _within(count: int, total: int, share: float) -> bool:
    return bool(abs(count - total * share) < 4 * (total * share * (1 - share)) ** 0.5)


def _masked(ids: Tensor, special: Tensor, seed: int = 0, **more: Any) -> tuple[Tensor, Tensor]:
    more = {"mask_id": MASK, "replacement_ids": torch.arange(5, 9), **more}
    return mask_tokens(ids, special, generator=torch.Generator().manual_seed(seed), **more)


def test_shares_of_mask_random_and_kept() -> None:
    ids = torch.full((200, 500), 7)
    special = torch.zeros_like(ids, dtype=torch.bool)
    special[:, ::5] = True
    masked, labels = _masked(ids, special, replacement_ids=torch.arange(1000, 2000))
    chosen = labels != -100
    n, total = int(chosen.sum()), 200 * 400
    assert _within(n, total, 0.15)
    assert not (chosen & special).any()
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(masked[~chosen], ids[~chosen])
    assert _within(int((masked == MASK).sum()), n, 0.8)
    drawn = masked[masked >= 1000]
    assert _within(len(drawn), n, 0.1)
    assert _within(int((masked[chosen] == 7).sum()), n, 0.1)
    assert len(drawn) + int((masked == MASK).sum()) + int((masked[chosen] == 7).sum()) == n
    assert drawn.unique().numel() > 600  # 1,200 draws of 1,000 ids meet 70% of them
    assert (ids == 7).all()


def test_a_fixed_number_of_masks_per_row() -> None:
    """As many in each row, no special token, each token equally often; short rows give all."""
    ids = torch.full((400, 20), 7)
    special = torch.zeros_like(ids, dtype=torch.bool)
    special[:, :8] = True
    special[0, :] = torch.arange(20) < 18
    _, labels = _masked(ids, special, per_row=3)
    chosen = labels != -100
    assert chosen.sum(dim=1).tolist() == [2] + [3] * 399
    assert not (chosen & special).any()
    for column in chosen[1:, 8:].sum(dim=0).tolist():
        assert _within(column, 399, 3 / 12)


def test_every_row_with_a_maskable_token_has_a_label() -> None:
    ids = torch.arange(12).reshape(3, 4) + 10
    special = torch.tensor([[0, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 1]]).bool()
    for seed in range(50):
        _, labels = _masked(ids, special, seed, probability=1e-6)
        assert (labels != -100).sum(1).tolist() == [1, 1, 0]
        assert labels[1, 2] == 16


def test_batch_is_the_rows_padded_with_specials_untouched(tokenizer: Any, dataset: Dataset) -> None:
    rows = _rows(dataset)
    batch = PairCollator(tokenizer, max_length=32, seed=0)(rows)
    assert set(batch) == {
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "labels",
        "next_sentence_label",
    }
    original = torch.where(batch["labels"] != -100, batch["labels"], batch["input_ids"])
    for i, row in enumerate(rows):
        n = len(row["input_ids"])
        assert original[i].tolist() == row["input_ids"] + [PAD] * (32 - n)
        assert batch["token_type_ids"][i].tolist() == row["token_type_ids"] + [0] * (32 - n)
        assert batch["attention_mask"][i].tolist() == [1] * n + [0] * (32 - n)
        assert batch["next_sentence_label"][i] == row["next_sentence_label"]
    assert (batch["labels"][original < 5] == -100).all()
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_special_tokens_are_never_drawn_as_replacements(tokenizer: Any, dataset: Dataset) -> None:
    collator = PairCollator(tokenizer, mask_probability=0.9)
    torch.manual_seed(0)
    drawn = []
    for _ in range(30):
        batch = collator(_rows(dataset, 0, 64))
        changed = (batch["labels"] != -100) & (batch["input_ids"] != batch["labels"])
        drawn.append(batch["input_ids"][changed])
    # [MASK] makes 80/90 of what is changed; were it drawn too, 1% of the rest would be it as well.
    ids, counts = torch.cat(drawn).unique(return_counts=True)
    assert set(ids.tolist()) == {MASK, *range(5, VOCAB)}
    assert counts[0] / counts.sum() == pytest.approx(0.8 / (0.8 + 0.1 * 94 / 95), abs=0.01)


def test_with_seed_masks_follow_the_batch_and_leave_the_global_generator_alone(
    tokenizer: Any, dataset: Dataset
) -> None:
    collator, rows = PairCollator(tokenizer, max_length=32, seed=1), _rows(dataset)
    state = torch.get_rng_state()
    first = collator(rows)
    assert torch.equal(torch.get_rng_state(), state)
    assert _equal(PairCollator(tokenizer, max_length=32, seed=1)(rows), first)
    assert not _equal(replace(collator, seed=2)(rows), first)
    neighbours = collator([*rows[:-1], dataset[40]])  # another epoch's batch
    assert not torch.equal(neighbours["labels"][:-1], first["labels"][:-1])


def test_fixed_masks_are_fixed_and_batch_for_a_model(tokenizer: Any, dataset: Dataset) -> None:
    collator = PairCollator(tokenizer, max_length=32)
    rows = FixedMasks(dataset, collator, seed=3)
    whole = default_data_collator([rows[i] for i in range(len(rows))])
    again = FixedMasks(dataset, replace(collator, seed=9), seed=3)
    torch.manual_seed(1)
    assert _equal(whole, default_data_collator([again[i] for i in range(len(again))]))
    assert not torch.equal(FixedMasks(dataset, collator, seed=4)[0]["labels"], rows[0]["labels"])
    assert _equal(rows[63], {name: column[63] for name, column in whole.items()})  # read alone
    assert whole["input_ids"].shape == (64, 32)
    maskable = int(((whole["attention_mask"] == 1).sum(1) - 3).sum())
    assert _within(int((whole["labels"] != -100).sum()), maskable, 0.15)
