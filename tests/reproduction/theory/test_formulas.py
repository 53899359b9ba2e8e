"""Theorems 5.7, 5.8, 5.14, 5.15 and 6.2 by hand, by the paper's integral and by simulation."""

import math

import pytest
import torch
from torch import Tensor

from sift_trainer.measuring.theory import pairwise_agreement, sigma_max
from sift_trainer.reproduction.theory.bounds import (
    SIGMA_LIMIT,
    argmax_agreement,
    argmax_agreement_bound,
    beta_from_weights,
    crossing_step,
    greedy_sgd_bound,
    greedy_sgd_floor,
    p_sigma,
    p_sigma_symmetric,
)

STEPS: dict[str, float] = {"initial_distance": 3.0, "learning_rate": 0.1, "smoothness": 2.0}
PAIR: dict[str, float] = {"loss_ratio": 1.5, "max_loss_at_minimum": 0.6}
GREEDY = {**STEPS, **PAIR}
SGD = {**STEPS, "loss_ratio": 1.0, "max_loss_at_minimum": 0.2}


def test_bounds_by_hand() -> None:
    """eta L = 0.2. Greedy: 9 / (2 * 1.5 * 0.1 * 0.8 * 50) + 0.6 / (1.5 * 0.8) = 0.75 + 0.5.

    SGD: 9 / (2 * 0.1 * 0.8 * 50) + 0.2 * 0.2 / 0.8 + 0.2 = 1.125 + 0.05 + 0.2.
    """
    assert greedy_sgd_bound(50, **GREEDY) == pytest.approx(1.25, rel=1e-12)
    assert greedy_sgd_bound(math.inf, **GREEDY) == pytest.approx(0.5, rel=1e-12)
    assert greedy_sgd_bound(50, **SGD) == pytest.approx(1.375, rel=1e-12)
    assert greedy_sgd_floor(**PAIR) == pytest.approx(0.4, rel=1e-12)


@pytest.mark.parametrize("ratio", [1.1, 2.0])
def test_bounds_cross_where_corollary_5_10_says(ratio: float) -> None:
    """The loss there is (Delta_R - F*) / ((1 - eta L) (rho_R* - 1))."""
    pair = {"loss_ratio": ratio, "max_loss_at_minimum": 0.6}
    step = crossing_step(initial_distance=3.0, learning_rate=0.1, minimum_loss=0.2, **pair)
    value = 0.4 / (0.8 * (ratio - 1))
    assert greedy_sgd_bound(step, **STEPS, **pair) == pytest.approx(value, rel=1e-9)
    assert greedy_sgd_bound(step, **SGD) == pytest.approx(value, rel=1e-9)
    assert greedy_sgd_bound(step / 2, **STEPS, **pair) < greedy_sgd_bound(step / 2, **SGD)


def test_arguments_outside_the_range_of_the_theorems() -> None:
    with pytest.raises(ValueError, match=r"learning_rate=0.5 must be in \(0, "):
        greedy_sgd_bound(10, **{**GREEDY, "learning_rate": 0.5})
    with pytest.raises(ValueError, match="loss_ratio=nan"):
        greedy_sgd_bound(10, **{**GREEDY, "loss_ratio": math.nan})
    with pytest.raises(ValueError, match=r"sigma=0.36 must be in \[0, 0.3536\] .* as 0.3"):
        p_sigma(0.36)


def gaussian(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("noise", [gaussian(2, 100_000), gaussian(2, 100_000).sign()])
@pytest.mark.parametrize("sigma", [0.01, 0.35, 3.0])
def test_theorem_5_15_holds_for_any_noise(sigma: float, noise: Tensor) -> None:
    """And its symmetric form for any sigma. Tolerance 0.007, four standard errors."""
    kept = []  # expected selected loss over the larger loss of a pair
    for ratio in (1.01, 1.1, 1.3, 2.0, 5.0):
        larger, smaller = torch.exp(sigma * noise)
        right = float((ratio * larger >= smaller).double().mean())
        kept.append(right + (1 - right) / ratio)
    assert p_sigma_symmetric(sigma) < min(kept) + 0.007
    if sigma <= SIGMA_LIMIT:
        assert p_sigma(sigma) < p_sigma_symmetric(sigma)


def test_p_sigma_by_hand() -> None:
    """At sigma = 1 / (2 sqrt 2) the exponent is -1/2: 1 - 0.72 (1 - 0.606531) = 0.716702."""
    assert p_sigma(SIGMA_LIMIT) == pytest.approx(0.716702, abs=1e-6)
    assert p_sigma_symmetric(SIGMA_LIMIT) == pytest.approx((1 + 0.606531) / 2, abs=1e-6)


def test_sigma_max_is_where_no_gain_is_left_and_leaves_the_theorem_above_1_395() -> None:
    for ratio in (1.05, 1.2, 1.39):
        assert p_sigma(sigma_max(ratio)) * ratio == pytest.approx(1, abs=1e-12)
    assert sigma_max(1.395) < SIGMA_LIMIT < sigma_max(1.396)


def equation_13(beta: float) -> float:
    """The integral as printed, by the trapezoidal rule on [0, 40]; good to 1e-7."""
    y = torch.linspace(0, 40, 400_001, dtype=torch.float64)
    values = torch.exp(-(y**2) / 4) * torch.erfc(beta * y / (2 * math.sqrt(1 - beta**2)))
    return 1 - float(torch.trapezoid(values, y)) / (2 * math.sqrt(math.pi))


@pytest.mark.parametrize("beta", [-0.9, 0.0, 0.5, 0.99])
def test_closed_form_equals_the_integral(beta: float) -> None:
    assert argmax_agreement(beta) == pytest.approx(equation_13(beta), abs=1e-6)


def test_bound_of_equation_14_is_below_the_sharper_bound_and_the_closed_form() -> None:
    """At 0.9 it is 1 - sqrt(0.38 / 1.19). It exceeds 1/2 from beta = 0.926 on."""
    assert argmax_agreement_bound(0.9) == pytest.approx(1 - math.sqrt(0.38 / 1.19))
    for beta in [step / 1000 for step in range(1001)]:
        sharper = 1 - math.sqrt(1 - beta**2) / 2  # with erfc(t) <= exp(-t^2)
        assert argmax_agreement_bound(beta) <= sharper + 1e-12
        assert sharper <= argmax_agreement(beta) + 1e-12
    assert argmax_agreement_bound(0.92) < 0.5 < argmax_agreement_bound(0.93)


def test_linear_network() -> None:
    """Theorem 6.2 from its assumptions: cross-entropies at the exits and the end of 3 layers.

    label * input is normal. 100,000 pairs: the standard error is at most 0.0016.
    """
    layers = list(torch.eye(8, dtype=torch.float64) + 0.2 * gaussian(3, 8, 8))
    head, hidden = layers[0].sum(dim=0), gaussian(200_000, 8)
    losses = []
    for weight in layers:
        hidden = hidden @ weight.T
        losses.append(torch.nn.functional.softplus(-(hidden @ head)))
    for exit_layer, early in enumerate(losses, start=1):
        beta = beta_from_weights(layers, head, exit_layer)
        assert 0.3 < beta < 0.95 or exit_layer == 3
        found = pairwise_agreement(losses[-1], early)
        assert found.share == pytest.approx(argmax_agreement(beta), abs=0.007)


def test_beta_from_weights_by_hand() -> None:
    """theta = (1, 0), W_1 = I, W_2 rotates by 60 degrees: beta_1 = 1/2, at any scale."""
    turn = torch.tensor([[0.5, -(0.75**0.5)], [0.75**0.5, 0.5]])
    weights, head = [torch.eye(2), 7 * turn], torch.tensor([1.0, 0.0])
    assert beta_from_weights(weights, head, 1) == pytest.approx(0.5, abs=1e-6)
    assert beta_from_weights(weights, 3 * head, 2) == pytest.approx(1)
