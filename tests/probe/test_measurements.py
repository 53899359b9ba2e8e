"""Overlap, rank correlation and intervals against numbers worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from sift_trainer.probe.measurements import (
    comparable,
    mean_over_batches,
    overlap,
    ranks,
    ratio_of_means,
    spearman,
)
from sift_trainer.scoring import UNLABELLED


def test_overlap_is_the_share_of_the_exact_rows() -> None:
    assert overlap(torch.tensor([0, 2, 5, 7]), torch.tensor([2, 3, 4, 7])) == 0.5


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert ranks(torch.tensor([3.0, 1.0, 3.0, 0.0])).tolist() == [2.5, 1.0, 2.5, 0.0]


def test_spearman_without_ties_is_the_textbook_formula() -> None:
    """1 - 6 sum d^2 / (n (n^2 - 1))."""
    draw = torch.Generator().manual_seed(0)
    first, second = torch.randperm(9, generator=draw), torch.randperm(9, generator=draw)
    squares = int((first - second).square().sum())
    expected = 1 - 6 * squares / (9 * 80)
    assert spearman(first.exp(), second.double().pow(3)) == pytest.approx(expected)


def test_spearman_of_what_has_no_order() -> None:
    rising = torch.arange(4.0)
    assert spearman(rising, torch.ones(4)) is None
    assert spearman(rising, -rising) == pytest.approx(-1)


def test_rows_without_a_loss_or_a_score_are_not_compared() -> None:
    losses = torch.tensor([1.0, UNLABELLED, 2.0, torch.nan, 3.0])
    scores = torch.tensor([1.0, 1.0, torch.inf, 1.0, 2.0])
    assert comparable(losses, scores).tolist() == [True, False, False, False, True]


def normal(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    """For many batches the bootstrap's percentiles are mean -+ 1.96 s / sqrt(n)."""
    values = 5 + 2 * normal(400)
    found = mean_over_batches(values.tolist())
    half = 1.96 * float(values.std()) / math.sqrt(400)
    assert found is not None
    assert found.value == pytest.approx(float(values.mean()))
    assert found.low == pytest.approx(found.value - half, abs=0.15 * half)
    assert found.high == pytest.approx(found.value + half, abs=0.15 * half)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    found = [mean_over_batches(normal(40, seed).tolist()) for seed in range(200)]
    covered = sum(each is not None and each.low <= 0 <= each.high for each in found)
    assert 0.88 <= covered / 200 <= 0.99


def test_a_ratio_is_of_means_not_a_mean_of_ratios() -> None:
    found = ratio_of_means([1.0, 9.0], [2.0, 3.0])
    assert found is not None
    assert (found.value, found.low, found.high) == (2.0, 0.5, 3.0)


def test_no_ratio_to_what_may_be_nothing() -> None:
    assert ratio_of_means([1.0, 1.0], [1.0, -1.0]) is None
    assert mean_over_batches([1.0]) is None
