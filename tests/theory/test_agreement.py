"""Theorem 6.2: p_j and beta_j against the paper's integral, linear networks and Gaussian pairs."""

import math

import pytest
import torch
from torch import Tensor

from sift_trainer.measuring.theory import (
    argmax_agreement,
    beta_from_margins,
    margins_from_losses,
    pairwise_agreement,
    wilson_interval,
)
from sift_trainer.reproduction.theory.constants import (
    argmax_agreement_bound,
    beta_from_agreement,
    beta_from_weights,
)

BETAS = [0.0, 0.5, 0.99]


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def equation_13(beta: float) -> float:
    """The integral as printed, by the trapezoidal rule on [0, 40]; good to 1e-7."""
    y = torch.linspace(0, 40, 400_001, dtype=torch.float64)
    values = torch.exp(-(y**2) / 4) * torch.erfc(beta * y / (2 * math.sqrt(1 - beta**2)))
    return 1 - float(torch.trapezoid(values, y)) / (2 * math.sqrt(math.pi))


@pytest.mark.parametrize("beta", [-0.9, *BETAS])
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


@pytest.mark.parametrize("beta", BETAS)
def test_gaussian_pairs(beta: float) -> None:
    """100,000 pairs: the standard error is at most 0.0016, the tolerance 0.007."""
    early, other = normal(2, 200_000)
    late = beta * early + math.sqrt(1 - beta**2) * other
    found = pairwise_agreement(late, early)
    assert found.pairs == 100_000
    assert found.share == pytest.approx(argmax_agreement(beta), abs=0.007)
    assert found.low < argmax_agreement(beta) < found.high
    assert beta_from_margins(early, late) == pytest.approx(beta, abs=0.01)
    assert beta_from_agreement(found.share) == pytest.approx(beta, abs=0.02)


def test_linear_network() -> None:
    """Theorem 6.2 from its assumptions: cross-entropies at the exits and the end of 3 layers.

    label * input is normal. Tolerances as above.
    """
    layers = list(torch.eye(8, dtype=torch.float64) + 0.2 * normal(3, 8, 8, seed=3))
    head, hidden = normal(8, seed=4), normal(200_000, 8, seed=5)
    losses = []
    for weight in layers:
        hidden = hidden @ weight.T
        losses.append(torch.nn.functional.softplus(-(hidden @ head)))
    for exit_layer, early in enumerate(losses, start=1):
        beta = beta_from_weights(layers, head, exit_layer)
        assert 0.3 < beta < 0.95 or exit_layer == 3
        found = pairwise_agreement(losses[-1], early)
        assert found.share == pytest.approx(argmax_agreement(beta), abs=0.007)
        margins = margins_from_losses(early), margins_from_losses(losses[-1])
        assert beta_from_margins(*margins) == pytest.approx(beta, abs=0.01)


def test_beta_from_weights_by_hand() -> None:
    """theta = (1, 0), W_1 = I, W_2 rotates by 60 degrees: beta_1 = 1/2, at any scale."""
    turn = torch.tensor([[0.5, -(0.75**0.5)], [0.75**0.5, 0.5]])
    weights, head = [torch.eye(2), 7 * turn], torch.tensor([1.0, 0.0])
    assert beta_from_weights(weights, head, 1) == pytest.approx(0.5, abs=1e-6)
    assert beta_from_weights(weights, 3 * head, 2) == pytest.approx(1)


def test_margins_from_losses() -> None:
    """The inverse of log(1 + e^-margin), also where e^loss overflows or rounds to 1."""
    margins = torch.tensor([-1000.0, -5.0, 0.0, 5.0, 30.0], dtype=torch.float64)
    found = margins_from_losses(torch.logaddexp(torch.zeros_like(margins), -margins))
    assert found.tolist() == pytest.approx(margins.tolist(), abs=1e-9)


def test_ties() -> None:
    """Pairs: equal exact losses (left out), equal scores (half), agreement, disagreement."""
    found = pairwise_agreement([1, 1, 1, 2, 1, 2, 1, 2, 9], [1, 2, 5, 5, 1, 2, 2, 1, 9])
    assert (found.pairs, found.share) == (3, 0.5)


def test_wilson_interval_by_hand() -> None:
    """8 of 10, z = 1.96 (Wilson, 1927): 0.490 to 0.943; 0 of 10: 0 to z^2 / (n + z^2)."""
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0, 3.8415 / 13.8415), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((10 / 13.8415, 1), abs=1e-4)


def test_undefined_results_are_refused() -> None:
    """The probe and the audit leave out what raises a ValueError."""
    with pytest.raises(ValueError, match=r"beta=-0.1 must be in \[0, 1\] in Equation 14"):
        argmax_agreement_bound(-0.1)
    with pytest.raises(ValueError, match=r"exit_layer=0 must be in 1..1"):
        beta_from_weights([torch.eye(2)], torch.ones(2), 0)
    with pytest.raises(ValueError, match="input direction=0 must be above 0"):
        beta_from_weights([torch.zeros(2, 2)], torch.ones(2), 1)
    with pytest.raises(ValueError, match="margins are all equal"):
        beta_from_margins([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"losses\[0\]=0 must be above 0"):
        margins_from_losses([0.0])
    with pytest.raises(ValueError, match="pairs with unequal losses=0"):
        pairwise_agreement([1.0, 1.0], [1.0, 2.0])
