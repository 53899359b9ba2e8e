"""Intervals against numbers worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from sift_trainer.probe.measurements import mean_over_batches, ratio_of_means


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
