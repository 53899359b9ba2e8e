"""Theorem 5.15, Corollary 5.16 and the fit of Assumption 5.12, by simulation and by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sift_trainer.theory import (
    SIGMA_LIMIT,
    fit_noise,
    p_sigma,
    p_sigma_symmetric,
    sigma_max,
    sigma_max_symmetric,
)

Draw = Callable[[int, torch.Generator], Tensor]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(count: int, source: torch.Generator) -> Tensor:
    return torch.randn(count, generator=source, dtype=torch.float64)


def exponential(count: int, source: torch.Generator) -> Tensor:
    """Skewed to the right: mean and variance of an exponential number are both 1."""
    return -torch.rand(count, generator=source, dtype=torch.float64).log() - 1


def rare(count: int, source: torch.Generator) -> Tensor:
    """One in fifty far off: 7 with chance 1/50, else -1/7, so mean 0 and variance 1."""
    hit = torch.rand(count, generator=source) < 0.02
    return torch.where(hit, 7.0, -1 / 7).double()


def coin(count: int, source: torch.Generator) -> Tensor:
    return (torch.rand(count, generator=source) < 0.5).double() * 2 - 1


NOISES = [gaussian, exponential, rare, lambda count, source: -rare(count, source), coin]
RATIOS = [1.01, 1.1, 1.3, 2.0, 5.0]
"""Larger loss over the smaller of a pair."""


def kept_share(sigma: float, ratio: float, draw: Draw, count: int = 200_000) -> float:
    """Expected loss of the chosen over the larger one: what p(sigma) is to bound from below."""
    source = generator()
    larger = ratio * torch.exp(sigma * draw(count, source))
    smaller = torch.exp(sigma * draw(count, source))
    right = float((larger >= smaller).double().mean())
    return right + (1 - right) / ratio


@pytest.mark.parametrize("draw", NOISES)
@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.35])
def test_theorem_5_15_holds_for_any_noise(sigma: float, draw: Draw) -> None:
    """Tolerance 0.005: the standard error of a share of 200,000 pairs is at most 0.0011."""
    least = min(kept_share(sigma, ratio, draw) for ratio in RATIOS)
    assert p_sigma(sigma) < p_sigma_symmetric(sigma) < least + 0.005


@pytest.mark.parametrize("draw", NOISES)
@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_symmetric_bound_holds_beyond_the_limit(sigma: float, draw: Draw) -> None:
    """And so would p(sigma), which is below it at any sigma."""
    least = min(kept_share(sigma, ratio, draw) for ratio in RATIOS)
    assert p_sigma_symmetric(sigma) < least + 0.005
    assert 1 - 0.72 * (1 - math.exp(-math.sqrt(2) * sigma)) < p_sigma_symmetric(sigma)


@pytest.mark.parametrize("sigma", [0.001, 0.1, 0.2, SIGMA_LIMIT])
def test_lemma_c_1_has_room(sigma: float) -> None:
    """Cantelli's worst case over the ratio of losses, on a grid, needs 0.52 where it says 0.72."""
    logs = torch.logspace(-6, 1, 20_000, dtype=torch.float64)
    worst = float((2 * (1 - torch.exp(-logs)) / (2 + logs**2 / sigma**2)).max())
    scale = 1 - math.exp(-math.sqrt(2) * sigma)
    assert 0.5 * scale < worst < 0.52 * scale
    assert p_sigma(sigma) == pytest.approx(1 - 0.72 * scale)


def test_p_sigma_by_hand_and_limits() -> None:
    """At sigma = 1 / (2 sqrt 2) the exponent is -1/2: 1 - 0.72 (1 - 0.606531) = 0.716702."""
    assert p_sigma(SIGMA_LIMIT) == pytest.approx(0.716702, abs=1e-6)
    assert p_sigma(0) == p_sigma_symmetric(0) == 1
    assert p_sigma_symmetric(100) == pytest.approx(0.5)
    falling = [p_sigma(sigma / 100) for sigma in range(36)]
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize("ratio", [1.05, 1.2, 1.39])
def test_sigma_max_is_where_the_gain_is_used_up(ratio: float) -> None:
    assert p_sigma(sigma_max(ratio)) * ratio == pytest.approx(1, abs=1e-12)
    symmetric = sigma_max_symmetric(ratio)
    assert p_sigma_symmetric(symmetric) * ratio == pytest.approx(1, abs=1e-12)
    assert symmetric > sigma_max(ratio)


def test_sigma_max_by_hand_and_where_it_leaves_the_theorem() -> None:
    """rho = 2: log(36 / 11) / sqrt(2) = 0.8384, beyond what Theorem 5.15 is proved for."""
    assert sigma_max(2) == pytest.approx(0.8384, abs=1e-4)
    assert sigma_max_symmetric(2) == math.inf
    assert sigma_max(1) == sigma_max_symmetric(1) == 0
    assert sigma_max(1.395) < SIGMA_LIMIT < sigma_max(1.396)


@pytest.mark.parametrize("draw", NOISES)
def test_sigma_is_recovered_whatever_the_factor(draw: Draw) -> None:
    """Each step has a factor of its own. Tolerance: five standard errors."""
    source = generator(1)
    steps = torch.arange(20_000) // 50
    losses = torch.rand(20_000, generator=source, dtype=torch.float64) + 0.1
    factors = torch.exp(3 * torch.randn(400, generator=source, dtype=torch.float64))
    approximate = losses * factors[steps] * torch.exp(0.3 * draw(20_000, source))
    fit = fit_noise(losses, approximate, steps)
    assert fit.sigma == pytest.approx(0.3, abs=5 * fit.standard_error)
    assert fit.correlation == pytest.approx(0, abs=5 / 20_000**0.5)
    assert fit_noise(losses, approximate).sigma > 2.5  # without steps the factors are noise


def test_standard_error_is_the_spread_of_the_estimate() -> None:
    """Of normal noise it is sigma / sqrt(2 n). Tolerance 15%: 400 repetitions leave 3.5%."""
    source = generator(2)
    losses = torch.rand(400, 100, generator=source, dtype=torch.float64) + 0.1
    noise = 0.2 * torch.randn(400, 100, generator=source, dtype=torch.float64)
    fits = [fit_noise(row, row * extra.exp()) for row, extra in zip(losses, noise, strict=True)]
    spread = float(torch.tensor([fit.sigma for fit in fits]).std())
    assert spread == pytest.approx(0.2 / 200**0.5, rel=0.15)
    assert sum(fit.standard_error for fit in fits) / 400 == pytest.approx(spread, rel=0.15)


def test_losses_shrunk_towards_each_other_are_no_noise_but_look_like_it() -> None:
    """approximate = sqrt(exact): the order is kept, the slope is -1/2, and nothing is left over."""
    losses = torch.tensor([0.1, 0.5, 1.0, 4.0])
    fit = fit_noise(losses, losses.sqrt())
    assert fit.slope == pytest.approx(-0.5, abs=1e-6)
    assert fit.correlation == pytest.approx(-1, abs=1e-6)
    assert fit.residual_sigma == pytest.approx(0, abs=1e-6)
    assert fit.sigma == pytest.approx(float(losses.double().log().std()) / 2, rel=1e-6)


def test_an_exponent_is_taken_off_by_the_equivalent_sigma() -> None:
    """approximate = exact^0.5 * exp(0.1 zeta) is ordered as exact * exp(0.2 zeta). Tolerance 3%."""
    source = generator(3)
    losses = torch.rand(20_000, generator=source, dtype=torch.float64) + 0.1
    noise = gaussian(20_000, source)
    fit = fit_noise(losses, losses.sqrt() * torch.exp(0.1 * noise))
    assert fit.sigma > 0.25
    assert fit.residual_sigma == pytest.approx(0.1, rel=0.03)
    assert fit.equivalent_sigma == pytest.approx(0.2, rel=0.03)
    same = losses * torch.exp(0.2 * noise)
    assert same.argsort().equal((losses.sqrt() * torch.exp(0.1 * noise)).argsort())
    assert fit_noise(losses, losses**-0.5 * torch.exp(noise)).equivalent_sigma == math.inf


def test_exact_losses_have_no_noise() -> None:
    fit = fit_noise([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert (fit.sigma, fit.standard_error, fit.slope, fit.correlation) == (0, 0, 0, 0)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"sigma=0.36 must be at most .* = 0.3536 .* such as 0.3"):
        p_sigma(0.36)
    for bound in (p_sigma, p_sigma_symmetric):
        with pytest.raises(ValueError, match=r"sigma=-0.1 must be finite and at least 0"):
            bound(-0.1)
    for threshold in (sigma_max, sigma_max_symmetric):
        for ratio in (0.99, 2.01, math.nan):
            with pytest.raises(ValueError, match=rf"loss_ratio={ratio:g} must be in \[1, 2\]"):
                threshold(ratio)
    with pytest.raises(ValueError, match=r"approximate_losses\[1\]=0 must be above 0"):
        fit_noise([1.0, 2.0, 3.0], [1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="samples - steps=1 must be at least 2"):
        fit_noise([1.0, 2.0, 3.0], [1.0, 2.0, 1.0], [0, 0, 1])
    with pytest.raises(ValueError, match="steps has shape"):
        fit_noise([1.0, 2.0, 3.0], [1.0, 2.0, 1.0], [0, 0])
    with pytest.raises(ValueError, match="equal losses have no order"):
        fit_noise([1.0, 1.0, 1.0], [1.0, 2.0, 1.0])
