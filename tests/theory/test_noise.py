"""Theorem 5.15, Corollary 5.16 and the fit of Assumption 5.12, by simulation and by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sift_trainer.measuring.theory import fit_noise, sigma_max
from sift_trainer.reproduction.theory.constants import (
    SIGMA_LIMIT,
    p_sigma,
    p_sigma_symmetric,
    sigma_max_symmetric,
)

Draw = Callable[[int, torch.Generator], Tensor]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(count: int, source: torch.Generator) -> Tensor:
    return torch.randn(count, generator=source, dtype=torch.float64)


def exponential(count: int, source: torch.Generator) -> Tensor:
    """Skewed to the right; mean and variance of an exponential number are both 1."""
    return -torch.rand(count, generator=source, dtype=torch.float64).log() - 1


def rare(count: int, source: torch.Generator) -> Tensor:
    """7 with probability 1/50, else -1/7: mean 0 and variance 1."""
    hit = torch.rand(count, generator=source) < 0.02
    return torch.where(hit, 7.0, -1 / 7).double()


def coin(count: int, source: torch.Generator) -> Tensor:
    return (torch.rand(count, generator=source) < 0.5).double() * 2 - 1


NOISES = pytest.mark.parametrize("draw", [gaussian, exponential, rare, coin])


def kept_share(sigma: float, ratio: float, draw: Draw, count: int = 100_000) -> float:
    """Expected selected loss over the larger loss of a pair: p(sigma) is a lower bound on it."""
    source = generator()
    larger = ratio * torch.exp(sigma * draw(count, source))
    smaller = torch.exp(sigma * draw(count, source))
    right = float((larger >= smaller).double().mean())
    return right + (1 - right) / ratio


@NOISES
@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.35, 1.0, 3.0])
def test_theorem_5_15_holds_for_any_noise(sigma: float, draw: Draw) -> None:
    """And its symmetric form for any sigma. Tolerance 0.007, four standard errors."""
    least = min(kept_share(sigma, ratio, draw) for ratio in (1.01, 1.1, 1.3, 2.0, 5.0))
    assert p_sigma_symmetric(sigma) < least + 0.007
    if sigma <= SIGMA_LIMIT:
        assert p_sigma(sigma) < p_sigma_symmetric(sigma)


def test_p_sigma_by_hand() -> None:
    """At sigma = 1 / (2 sqrt 2) the exponent is -1/2: 1 - 0.72 (1 - 0.606531) = 0.716702."""
    assert p_sigma(SIGMA_LIMIT) == pytest.approx(0.716702, abs=1e-6)
    assert p_sigma_symmetric(SIGMA_LIMIT) == pytest.approx((1 + 0.606531) / 2, abs=1e-6)
    assert p_sigma(0) == p_sigma_symmetric(0) == 1


@pytest.mark.parametrize("ratio", [1.05, 1.2, 1.39])
def test_no_gain_is_left_at_sigma_max(ratio: float) -> None:
    assert p_sigma(sigma_max(ratio)) * ratio == pytest.approx(1, abs=1e-12)
    symmetric = sigma_max_symmetric(ratio)
    assert p_sigma_symmetric(symmetric) * ratio == pytest.approx(1, abs=1e-12)
    assert symmetric > sigma_max(ratio)


def test_sigma_max_by_hand_and_where_it_leaves_the_theorem() -> None:
    """rho = 2: log(36 / 11) / sqrt(2) = 0.8384, outside the range of Theorem 5.15."""
    assert sigma_max(2) == pytest.approx(0.8384, abs=1e-4)
    assert sigma_max_symmetric(2) == math.inf
    assert sigma_max(1) == sigma_max_symmetric(1) == 0
    assert sigma_max(1.395) < SIGMA_LIMIT < sigma_max(1.396)


@NOISES
def test_sigma_is_recovered_with_a_factor_per_step(draw: Draw) -> None:
    """Tolerance: five standard errors."""
    source = generator(1)
    steps = torch.arange(20_000) // 50
    losses = torch.rand(20_000, generator=source, dtype=torch.float64) + 0.1
    factors = torch.exp(3 * gaussian(400, source))
    approximate = losses * factors[steps] * torch.exp(0.3 * draw(20_000, source))
    fit = fit_noise(losses, approximate, steps)
    assert fit.sigma == pytest.approx(0.3, abs=5 * fit.standard_error)
    assert fit.correlation == pytest.approx(0, abs=5 / 20_000**0.5)
    assert fit_noise(losses, approximate).sigma > 2.5  # without steps the factors are noise


def test_standard_error_is_the_spread_of_the_estimate() -> None:
    """For normal noise it is sigma / sqrt(2 n). Tolerance 15%, four standard errors."""
    source = generator(2)
    losses = torch.rand(400, 100, generator=source, dtype=torch.float64) + 0.1
    noise = 0.2 * torch.randn(400, 100, generator=source, dtype=torch.float64)
    fits = [fit_noise(row, row * extra.exp()) for row, extra in zip(losses, noise, strict=True)]
    spread = float(torch.tensor([fit.sigma for fit in fits]).std())
    assert spread == pytest.approx(0.2 / 200**0.5, rel=0.15)
    assert sum(fit.standard_error for fit in fits) / 400 == pytest.approx(spread, rel=0.15)


def test_equivalent_sigma_ignores_an_exponent() -> None:
    """approximate = exact^0.5 * exp(0.1 zeta) has the order of exact * exp(0.2 zeta)."""
    source = generator(3)
    losses = torch.rand(20_000, generator=source, dtype=torch.float64) + 0.1
    noise = gaussian(20_000, source)
    fit = fit_noise(losses, losses.sqrt() * torch.exp(0.1 * noise))
    assert fit.slope == pytest.approx(-0.5, abs=0.01)
    assert fit.sigma > 0.25
    assert fit.residual_sigma == pytest.approx(0.1, rel=0.03)
    assert fit.equivalent_sigma == pytest.approx(0.2, rel=0.03)
    assert fit_noise(losses, losses**-0.5 * torch.exp(noise)).equivalent_sigma == math.inf


def test_exact_losses_have_no_noise() -> None:
    fit = fit_noise([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert (fit.sigma, fit.standard_error, fit.slope, fit.correlation) == (0, 0, 0, 0)


def test_undefined_results_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sigma=0.36 must be in .* = \[0, 0.3536\] .* as 0.3"):
        p_sigma(0.36)
    with pytest.raises(ValueError, match=r"loss_ratio=2.01 must be in \[1, 2\]"):
        sigma_max(2.01)
    with pytest.raises(ValueError, match=r"approximate_losses\[1\]=0 must be above 0"):
        fit_noise([1.0, 2.0, 3.0], [1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="samples - steps=1 must be at least 2"):
        fit_noise([1.0, 2.0, 3.0], [1.0, 2.0, 1.0], [0, 0, 1])
    with pytest.raises(ValueError, match="losses are all equal"):
        fit_noise([1.0, 1.0, 1.0], [1.0, 2.0, 1.0])
