"""Overlap and rank correlation against numbers worked out by hand."""

import pytest
import torch

from sift_trainer.measuring.agreement import comparable, overlap, ranks, spearman
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
