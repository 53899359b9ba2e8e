"""Theorem 6.2: p_j against the paper's integral, linear networks and Gaussian pairs."""

import math

import pytest
import torch
from torch import Tensor

from sift_trainer.theory import (
    argmax_agreement,
    argmax_agreement_bound,
    beta_from_agreement,
    beta_from_margins,
    beta_from_weights,
    margins_from_losses,
    pairwise_agreement,
    wilson_interval,
)

BETAS = [0.0, 0.1, 0.5, 0.9, 0.99]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def equation_13(beta: float) -> float:
    """The integral as it is printed, by the trapezoidal rule on [0, 40]; good to 1e-7."""
    y = torch.linspace(0, 40, 400_001, dtype=torch.float64)
    values = torch.exp(-(y**2) / 4) * torch.erfc(beta * y / (2 * math.sqrt(1 - beta**2)))
    return 1 - float(torch.trapezoid(values, y)) / (2 * math.sqrt(math.pi))


@pytest.mark.parametrize("beta", [-0.99, -0.5, *BETAS])
def test_closed_form_is_the_integral(beta: float) -> None:
    assert argmax_agreement(beta) == pytest.approx(equation_13(beta), abs=1e-6)


def test_by_hand() -> None:
    """arcsin(1/2) = pi / 6; the bound at 0.9: 1 - sqrt(0.38 / 1.19)."""
    assert argmax_agreement(0.5) == pytest.approx(2 / 3)
    assert [argmax_agreement(beta) for beta in (-1, 0, 1)] == pytest.approx([0, 0.5, 1])
    assert argmax_agreement_bound(0.9) == pytest.approx(1 - math.sqrt(0.38 / 1.19))
    assert [argmax_agreement_bound(beta) for beta in (0, 1)] == pytest.approx([0, 1])


def test_bound_holds_rises_and_is_weaker_than_a_coin_below_0_92() -> None:
    betas = [step / 1000 for step in range(1001)]
    bounds = [argmax_agreement_bound(beta) for beta in betas]
    assert bounds == sorted(bounds)
    for beta, bound in zip(betas, bounds, strict=True):
        sharper = 1 - math.sqrt(1 - beta**2) / 2  # with erfc(t) <= exp(-t^2)
        assert bound <= sharper + 1e-12
        assert sharper <= argmax_agreement(beta) + 1e-12
    assert argmax_agreement_bound(0.92) < 0.5 < argmax_agreement_bound(0.93)


def test_corollary_6_3() -> None:
    """The bound misses 1 by 2 sqrt(tau), p_j itself by sqrt(2 tau) / pi: same order."""
    tau = 1e-6
    assert 1 - argmax_agreement_bound(1 - tau) == pytest.approx(2 * math.sqrt(tau), rel=1e-3)
    assert 1 - argmax_agreement(1 - tau) == pytest.approx(math.sqrt(2 * tau) / math.pi, rel=1e-3)


@pytest.mark.parametrize("beta", BETAS)
def test_gaussian_pairs(beta: float) -> None:
    """200,000 samples make 100,000 pairs: the standard error is at most 0.0016, tolerance 0.007."""
    early, other = normal(2, 200_000)
    late = beta * early + math.sqrt(1 - beta**2) * other
    found = pairwise_agreement(late, early)
    assert found.pairs == 100_000
    assert found.share == pytest.approx(argmax_agreement(beta), abs=0.007)
    assert found.low < argmax_agreement(beta) < found.high
    assert beta_from_margins(early, late) == pytest.approx(beta, abs=0.01)
    assert beta_from_agreement(found.share) == pytest.approx(beta, abs=0.02)


@pytest.mark.parametrize("exit_layer", [1, 2, 3])
def test_linear_network(exit_layer: int) -> None:
    """Theorem 6.2 from its own assumptions: cross-entropies at an exit and at the end of 3 layers.

    label * input is drawn normal, so that the differences of two are N(0, 2 I). Tolerance 0.007
    as above, 0.01 for beta.
    """
    layers = list(torch.eye(8, dtype=torch.float64) + 0.2 * normal(3, 8, 8, seed=3))
    head = normal(8, seed=4)
    signed = normal(200_000, 8, seed=5)

    def losses(depth: int) -> Tensor:
        hidden = signed
        for weight in layers[:depth]:
            hidden = hidden @ weight.T
        return torch.nn.functional.softplus(-(hidden @ head))

    early, late = losses(exit_layer), losses(3)
    beta = beta_from_weights(layers, head, exit_layer)
    assert 0.3 < beta < 0.95 or exit_layer == 3
    found = pairwise_agreement(late, early)
    assert found.share == pytest.approx(argmax_agreement(beta), abs=0.007)
    margins = margins_from_losses(early), margins_from_losses(late)
    assert beta_from_margins(*margins) == pytest.approx(beta, abs=0.01)


def test_beta_from_weights_by_hand() -> None:
    """theta = (1, 0), W_1 = I, W_2 turns by 60 degrees: beta_1 = 1/2. A scale changes nothing."""
    turn = torch.tensor([[0.5, -(0.75**0.5)], [0.75**0.5, 0.5]])
    weights, head = [torch.eye(2), 7 * turn], torch.tensor([1.0, 0.0])
    assert beta_from_weights(weights, head, 1) == pytest.approx(0.5, abs=1e-6)
    assert beta_from_weights(weights, 3 * head, 2) == 1


def test_margins_from_losses() -> None:
    """log(1 + e^-margin) undone, also where e^loss overflows and where it rounds to 1."""
    margins = torch.tensor([-1000.0, -5.0, 0.0, 5.0, 30.0], dtype=torch.float64)
    found = margins_from_losses(torch.logaddexp(torch.zeros_like(margins), -margins))
    assert found.tolist() == pytest.approx(margins.tolist(), abs=1e-9)


def test_ties() -> None:
    """Pairs: equal exact losses (left out), equal scores (half), agreement, disagreement."""
    found = pairwise_agreement([1, 1, 1, 2, 1, 2, 1, 2, 9], [1, 2, 5, 5, 1, 2, 2, 1, 9])
    assert (found.pairs, found.share) == (3, 0.5)


def test_wilson_by_hand_and_at_the_ends() -> None:
    """8 of 10, z = 1.96 (Wilson, 1927): 0.490 to 0.943; 0 of 10: 0 to z^2 / (n + z^2)."""
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0, 3.8415 / 13.8415), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((10 / 13.8415, 1), abs=1e-4)


def test_wilson_covers() -> None:
    """95% intervals of 2000 draws of 80 at chance 0.9 hold 0.9 in 93% to 97% of cases."""
    hits = (torch.rand(2000, 80, generator=generator(6)) < 0.9).sum(dim=1).tolist()
    intervals = [wilson_interval(hit, 80) for hit in hits]
    assert 0.93 < sum(low <= 0.9 <= high for low, high in intervals) / 2000 < 0.97


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"beta=1.1 must be in \[-1, 1\]"):
        argmax_agreement(1.1)
    with pytest.raises(ValueError, match=r"beta=-0.1 must be in \[0, 1\] in Equation 14"):
        argmax_agreement_bound(-0.1)
    with pytest.raises(ValueError, match=r"agreement=1.5 must be in \[0, 1\]"):
        beta_from_agreement(1.5)
    with pytest.raises(ValueError, match=r"exit_layer=2 must be in 1..1"):
        beta_from_weights([torch.eye(2)], torch.ones(2), 2)
    with pytest.raises(ValueError, match="exit_layer=0"):
        beta_from_weights([torch.eye(2)], torch.ones(2), 0)
    with pytest.raises(ValueError, match=r"weights\[0\] has shape \(3, 3\)"):
        beta_from_weights([torch.eye(3)], torch.ones(2), 1)
    with pytest.raises(ValueError, match="such an exit is blind"):
        beta_from_weights([torch.zeros(2, 2)], torch.ones(2), 1)
    with pytest.raises(ValueError, match="spread of margins=0"):
        beta_from_margins([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"losses\[0\]=0 must be above 0"):
        margins_from_losses([0.0])
    with pytest.raises(ValueError, match="pairs with unequal losses=0"):
        pairwise_agreement([1.0, 1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="trials=0"):
        wilson_interval(0, 0)
    with pytest.raises(ValueError, match="successes=5"):
        wilson_interval(5, 4)
    with pytest.raises(ValueError, match="confidence=95"):
        wilson_interval(1, 4, 95)
