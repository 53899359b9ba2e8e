"""The order of the candidates: the stock batches first, and an epoch of as many batches."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import BatchSampler, IterableDataset, SequentialSampler
from transformers.trainer_pt_utils import LengthGroupedSampler

from sift_trainer.selection.candidates import CandidateSampler, RepeatedStream, deal
from sift_trainer.selection.schedule import num_candidates


def batches(sampler: Any, size: int) -> list[list[int]]:
    return list(BatchSampler(sampler, size, drop_last=False))


def random_sampler(count: int) -> SeedableRandomSampler:
    generator = torch.Generator().manual_seed(3)
    return SeedableRandomSampler(range(count), generator=generator, data_seed=3)


@pytest.mark.parametrize("count", [1, 5, 16, 35, 100])
@pytest.mark.parametrize(("kept", "ratio"), [(4, 0.5), (8, 0.25), (3, 0.75), (5, 0.9), (1, 0.4)])
@pytest.mark.parametrize("kind", [random_sampler, lambda count: SequentialSampler(range(count))])
def test_batches_begin_with_the_stock_batches(
    count: int, kept: int, ratio: float, kind: Any
) -> None:
    stock = batches(kind(count), kept)
    sampler = CandidateSampler(kind(count), kept, ratio)
    drawn = batches(sampler, num_candidates(kept, ratio))
    assert [batch[: len(own)] for batch, own in zip(drawn, stock, strict=True)] == stock
    assert [round(len(batch) * ratio) for batch in drawn] == [len(own) for own in stock]
    assert sum(map(len, drawn)) == len(sampler)


def test_each_sample_is_drawn_equally_often_and_anew_in_each_epoch() -> None:
    sampler = CandidateSampler(random_sampler(24), 4, 1 / 3)
    first, second = list(sampler), list(sampler)
    assert set(Counter(first).values()) == set(Counter(second).values()) == {3}
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first
    stock = random_sampler(24)
    own, again = list(stock), list(stock)
    assert [row for batch in batches(iter(first), 12) for row in batch[:4]] == own
    assert [row for batch in batches(iter(second), 12) for row in batch[:4]] == again


def test_an_order_that_never_changes_gives_no_sample_twice_in_a_batch() -> None:
    sampler = CandidateSampler(SequentialSampler(range(40)), 4, 0.5)
    assert all(len(set(batch)) == 8 for batch in batches(sampler, 8))


def test_candidates_are_as_long_as_the_stock_batch_they_join() -> None:
    lengths = [1 + row % 50 for row in range(400)]
    torch.manual_seed(0)
    sampler = CandidateSampler(LengthGroupedSampler(8, lengths=lengths), 8, 0.5)
    spreads = [
        max(lengths[row] for row in batch) - min(lengths[row] for row in batch)
        for batch in batches(sampler, 16)
    ]
    assert sorted(spreads)[len(spreads) // 2] <= 4


class OwnStates:
    """A sampler with random states of several kinds, and its own count of epochs."""

    def __init__(self, kind: str) -> None:
        self.kind, self.calls = kind, 0
        self.rng, self.draws = np.random.default_rng(0), torch.Generator().manual_seed(0)
        self.dice = random.Random(0)

    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Any:
        self.calls += 1
        rows = list(range(20))
        if self.kind == "count":
            return iter(np.random.default_rng(self.calls).permutation(20).tolist())
        if self.kind == "numpy":
            return iter(self.rng.permutation(20).tolist())
        if self.kind == "torch":
            return iter(torch.randperm(20, generator=self.draws).tolist())
        (self.dice if self.kind == "own dice" else random).shuffle(rows)
        return iter(rows if self.kind != "global numpy" else np.random.permutation(20).tolist())


@pytest.mark.parametrize("kind", ["count", "numpy", "torch", "own dice", "dice", "global numpy"])
def test_further_passes_leave_the_sampler_as_it_was(kind: str) -> None:
    def begin() -> OwnStates:
        random.seed(0)
        np.random.seed(0)
        return OwnStates(kind)

    stock = begin()
    expected = [batches(stock, 4) for _ in range(3)]
    sampler = CandidateSampler(begin(), 4, 0.5)
    found = [[batch[:4] for batch in batches(sampler, 8)] for _ in range(3)]
    assert found == expected


@pytest.mark.parametrize(("count", "ratio"), [(100, 0.5), (90, 0.3), (64, 0.75)])
def test_no_batch_has_a_sample_twice(count: int, ratio: float) -> None:
    for epoch in range(20):
        sampler = CandidateSampler(random_sampler(count), 8, ratio)
        sampler.set_epoch(epoch)
        drawn = batches(sampler, num_candidates(8, ratio))
        assert all(len(set(batch)) == len(batch) for batch in drawn[:-1])


def test_data_of_fewer_samples_than_a_batch_gives_them_again() -> None:
    assert list(deal([([0, 1], 4)], [0, 1, 0, 1])) == [[0, 1, 0, 1]]
    assert list(deal([([0, 1], 2), ([2, 3], 2)], [1, 2, 0, 3])) == [[2, 3], [1, 0]]


class Stream(IterableDataset[int]):
    """Numbers from 0 on, in another order in each epoch."""

    def __init__(self, count: int, length: bool = False) -> None:
        self.count, self.epoch = count, 0
        if length:
            self.__class__ = type("Sized", (Stream,), {"__len__": lambda self: self.count})

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Any:
        return iter([(row + self.epoch) % self.count for row in range(self.count)])


@pytest.mark.parametrize(("ratio", "drawn"), [(0.5, 20), (0.25, 40), (0.75, 13), (0.4, 25)])
def test_an_epoch_of_a_stream_is_several_passes(ratio: float, drawn: int) -> None:
    stream = RepeatedStream(Stream(10), 4, ratio)
    found = list(stream)
    assert len(found) == drawn
    counts = Counter(found).values()
    assert max(counts) - min([*counts, *[0] * (10 - len(counts))]) <= 1
    with pytest.raises(TypeError):
        len(stream)
    assert len(RepeatedStream(Stream(10, length=True), 4, ratio)) == drawn
    assert found[10:20] == found[: len(found[10:20])]  # an epoch has one order
    stream.set_epoch(1)
    assert list(stream)[:10] != found[:10]


def test_a_stream_that_can_be_read_once_ends() -> None:
    rows = iter(range(10))
    once = type("Once", (IterableDataset,), {"__iter__": lambda self: rows})()
    assert list(RepeatedStream(once, 2, 0.5)) == list(range(10))
