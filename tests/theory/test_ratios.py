"""Definitions 5.6 and 5.13 and Theorem 5.18, against enumeration, closed forms and simulation."""

import math
from itertools import combinations

import pytest
import torch

from sift_trainer.measuring.theory import (
    approximate_loss_ratio,
    expected_max_loss,
    expected_selected_loss,
    loss_ratio,
)
from sift_trainer.reproduction.theory.constants import gaussian_loss_ratio_bound, nu

LOSSES = [0.5, 2.0, 0.1, 0.9, 0.9, 3.0, 0.0]
SCORES = [0.2, 0.9, 0.3, 0.9, 0.1, 0.4, 0.0]


def normal(count: int) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("num_candidates", [1, 2, 3, 7])
def test_all_sets_of_candidates_by_enumeration(num_candidates: int) -> None:
    """A tie of scores is broken either way with the same probability."""
    largest, selected = [], []
    for rows in combinations(range(7), num_candidates):
        largest.append(max(LOSSES[row] for row in rows))
        top = max(SCORES[row] for row in rows)
        tied = [LOSSES[row] for row in rows if SCORES[row] == top]
        selected.append(sum(tied) / len(tied))
    assert expected_max_loss(LOSSES, num_candidates) == pytest.approx(sum(largest) / len(largest))
    found = expected_selected_loss(LOSSES, SCORES, num_candidates)
    assert found == pytest.approx(sum(selected) / len(selected))
    ratio = approximate_loss_ratio(LOSSES, SCORES, num_candidates)
    assert ratio == pytest.approx(found / (sum(LOSSES) / 7))
    assert ratio <= loss_ratio(LOSSES, num_candidates)


def test_squared_gaussian_errors_of_two() -> None:
    """E max(a, b) = (E a + E b + E|a - b|) / 2, and |Z1^2 - Z2^2| is a product of two independent
    normal numbers with variance 2: 4 / pi on average. So rho_2 = 1 + 2 / pi.

    Tolerance 1%: 400,000 samples leave a standard error below 0.3%.
    """
    assert loss_ratio(normal(400_000).square()) == pytest.approx(1 + 2 / math.pi, rel=0.01)


def test_bf16_tensors_and_lists_alike() -> None:
    tensor = torch.tensor([0.5, 2.0, 0.125], dtype=torch.bfloat16, requires_grad=True)
    assert loss_ratio(tensor) == loss_ratio([0.5, 2.0, 0.125])


@pytest.mark.parametrize("mean_error", [0.0, 0.5, -3.0])
@pytest.mark.parametrize("num_candidates", [9, 512])
def test_theorem_5_18_holds(num_candidates: int, mean_error: float) -> None:
    """rho_R from 100,000 normal errors of standard deviation 2; a standard error is below 2%."""
    errors = mean_error + 2 * normal(100_000)
    measured = loss_ratio(errors.square(), num_candidates)
    assert gaussian_loss_ratio_bound(num_candidates, mean_error, 2.0) < 1.06 * measured


def test_theorem_5_18_by_hand() -> None:
    """R = e^5: log(e^5 / 20) = 5 - log 20 = 2.00427, times pi / 2, root: 1.77434.

    eps = +-delta: (1 + nu)^2 (1 - 1/R) / 2.
    """
    assert nu(148) == pytest.approx(1.77434, abs=1e-3)  # e^5 = 148.4
    expected = (1 + nu(100)) ** 2 * 0.99 / 2
    assert gaussian_loss_ratio_bound(100, 2.0, 2.0) == pytest.approx(expected)
    assert gaussian_loss_ratio_bound(100, -7.0, 7.0) == pytest.approx(expected)
    assert gaussian_loss_ratio_bound(24, 0, 1) < 1 < gaussian_loss_ratio_bound(25, 0, 1)


def test_undefined_results_are_refused() -> None:
    with pytest.raises(ValueError, match=r"losses\[1\]=-1 must be at least 0"):
        loss_ratio([1.0, -1.0])
    with pytest.raises(ValueError, match=r"losses\[2\]=nan must be finite"):
        loss_ratio([1.0, 1.0, math.nan])
    with pytest.raises(ValueError, match=r"shape \(1,\); it must be \(n,\) with n of at least 2"):
        loss_ratio([1.0])
    with pytest.raises(ValueError, match=r"scores has shape \(3,\), losses has \(2,\)"):
        approximate_loss_ratio([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="mean of losses=0"):
        loss_ratio([0.0, 0.0])
    with pytest.raises(ValueError, match="num_candidates=8 must be at least 9"):
        nu(8)
