"""rho_R, sigma and p_j against enumeration, closed forms and simulation."""

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

from sift_trainer.measuring.theory import (
    approximate_loss_ratio,
    expected_selected_loss,
    fit_noise,
    loss_ratio,
    pairwise_agreement,
    sigma_max,
)

LOSSES = [0.5, 2.0, 0.1, 0.9, 0.9, 3.0, 0.0]
SCORES = [0.2, 0.9, 0.3, 0.9, 0.1, 0.4, 0.0]


def draws(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Losses in [0.1, 1.1] and standard normal noise."""
    generator = torch.Generator().manual_seed(seed)
    losses = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1
    return losses, torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("num_candidates", [1, 2, 3, 7])
def test_all_sets_of_candidates_by_enumeration(num_candidates: int) -> None:
    """A tie of scores is broken either way with the same probability."""
    largest, selected = [], []
    for rows in combinations(range(7), num_candidates):
        largest.append(max(LOSSES[row] for row in rows))
        top = max(SCORES[row] for row in rows)
        tied = [LOSSES[row] for row in rows if SCORES[row] == top]
        selected.append(sum(tied) / len(tied))
    found = expected_selected_loss(LOSSES, SCORES, num_candidates)
    assert found == pytest.approx(sum(selected) / len(selected))
    ratio = approximate_loss_ratio(LOSSES, SCORES, num_candidates)
    assert ratio == pytest.approx(found / (sum(LOSSES) / 7))
    exact = sum(largest) / len(largest) / (sum(LOSSES) / 7)
    assert loss_ratio(LOSSES, num_candidates) == pytest.approx(exact)


def test_squared_gaussian_errors_of_two() -> None:
    """E max(a, b) = (E a + E b + E|a - b|) / 2, and |Z1^2 - Z2^2| is a product of two independent
    normal numbers with variance 2: 4 / pi on average. So rho_2 = 1 + 2 / pi.

    Tolerance 1%: 400,000 samples leave a standard error below 0.3%.
    """
    assert loss_ratio(draws(400_000)[1].square()) == pytest.approx(1 + 2 / math.pi, rel=0.01)


def test_bf16_tensors_and_lists_alike() -> None:
    tensor = torch.tensor([0.5, 2.0, 0.125], dtype=torch.bfloat16, requires_grad=True)
    assert loss_ratio(tensor) == loss_ratio([0.5, 2.0, 0.125])


def test_sigma_max_by_hand() -> None:
    """rho = 2: log(36 / 11) / sqrt(2) = 0.8384."""
    assert sigma_max(2) == pytest.approx(0.8384, abs=1e-4)
    assert sigma_max(1) == 0


def test_sigma_and_its_standard_error() -> None:
    """For normal noise the error is sigma / sqrt(2 n). Tolerance 15%, four standard errors."""
    losses, noise = draws(400, 100, seed=2)
    approximate = 3 * losses * (0.2 * noise).exp()
    fits = [fit_noise(*rows) for rows in zip(losses, approximate, strict=True)]
    sigmas = torch.tensor([fit.sigma for fit in fits])
    assert float(sigmas.mean()) == pytest.approx(0.2, rel=0.01)
    assert float(sigmas.std()) == pytest.approx(0.2 / 200**0.5, rel=0.15)
    errors = sum(fit.standard_error for fit in fits) / 400
    assert errors == pytest.approx(float(sigmas.std()), rel=0.15)


def test_equivalent_sigma_ignores_an_exponent() -> None:
    """approximate = exact^0.5 * exp(0.1 zeta) has the order of exact * exp(0.2 zeta)."""
    losses, noise = draws(20_000, seed=3)
    fit = fit_noise(losses, losses.sqrt() * torch.exp(0.1 * noise))
    assert fit.slope == pytest.approx(-0.5, abs=0.01)
    assert fit.sigma > 0.25
    assert fit.residual_sigma == pytest.approx(0.1, rel=0.03)
    assert fit.equivalent_sigma == pytest.approx(0.2, rel=0.03)
    assert fit_noise(losses, losses**-0.5 * torch.exp(noise)).equivalent_sigma == math.inf


def test_exact_losses_have_no_noise() -> None:
    fit = fit_noise([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert (fit.sigma, fit.standard_error, fit.slope) == (0, 0, 0)


def test_ties() -> None:
    """Pairs: equal exact losses (left out), equal scores (half), agreement, disagreement."""
    found = pairwise_agreement([1, 1, 1, 2, 1, 2, 1, 2, 9], [1, 2, 5, 5, 1, 2, 2, 1, 9])
    assert (found.pairs, found.share) == (3, 0.5)


@pytest.mark.parametrize(
    ("agreeing", "interval"),
    [(8, (0.4902, 0.9433)), (0, (0, 3.8415 / 13.8415)), (10, (10 / 13.8415, 1))],
)
def test_wilson_interval_by_hand(agreeing: int, interval: tuple[float, float]) -> None:
    """Of 10, z = 1.96 (Wilson, 1927); 0 of n: 0 to z^2 / (n + z^2)."""
    found = pairwise_agreement([1, 2] * 10, [1, 2] * agreeing + [2, 1] * (10 - agreeing))
    assert (found.low, found.high) == pytest.approx(interval, abs=1e-4)


def test_undefined_results_are_refused() -> None:
    """The probe and the audit leave out what raises a ValueError."""
    with pytest.raises(ValueError, match="smallest loss=-1 must be at least 0"):
        loss_ratio([1.0, -1.0])
    with pytest.raises(ValueError, match="must be finite"):
        loss_ratio([1.0, 1.0, math.nan])
    with pytest.raises(ValueError, match=r"\(2,\) and scores \(3,\); both must be \(n,\)"):
        approximate_loss_ratio([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="mean of losses=0"):
        loss_ratio([0.0, 0.0])
    with pytest.raises(ValueError, match=r"loss_ratio=2.01 must be in \[1, 2\]"):
        sigma_max(2.01)
    with pytest.raises(ValueError, match="smallest loss=0 must be above 0"):
        fit_noise([1.0, 2.0, 3.0], [1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="losses are all equal"):
        fit_noise([1.0, 1.0, 1.0], [1.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="pairs with unequal losses=0"):
        pairwise_agreement([1.0, 1.0], [1.0, 2.0])
