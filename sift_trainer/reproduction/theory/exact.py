"""F*, Delta_R, rho_R* and rho_{2,approx}* of a problem by integration, without sampling."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from sift_trainer.reproduction.theory.problems import Problem, Uniform


def _cdf_of_size(size: Tensor, residuals: Sequence[Uniform]) -> Tensor:
    """P(|residual| <= size)."""
    total = torch.zeros_like(size)
    for weight, low, high in residuals:
        if low == high:
            total += weight * (size >= abs(low)).double()
        else:
            covered = size.clamp(max=high) - (-size).clamp(min=low)
            total += weight * covered.clamp(min=0) / (high - low)
    return total


def max_loss(residuals: Sequence[Uniform], num_candidates: int) -> float:
    """F_R(w) of Definition 5.6, the expected largest of R losses r^2 / 2; the mean loss for R = 1.

    The integral of t (1 - P(|r| <= t)^R) over t. Between the ends of the uniform parts the
    integrand is a polynomial of degree R + 1, so Gauss-Legendre quadrature is exact.
    """
    nodes, node_weights = map(torch.from_numpy, leggauss(num_candidates // 2 + 2))
    ends = sorted({0.0, *(abs(end) for _, low, high in residuals for end in (low, high))})
    total = 0.0
    for low, high in pairwise(ends):
        size = (high + low) / 2 + (high - low) / 2 * nodes
        beyond = 1 - _cdf_of_size(size, residuals) ** num_candidates
        total += float((node_weights * size * beyond).sum()) * (high - low) / 2
    return total


@lru_cache(maxsize=1024)  # two ratios of a problem are searched over the same offsets
def selected_loss(residuals: tuple[Uniform, ...], sigma: float, nodes: int = 200) -> float:
    """F_{2,approx}(w) of Definition 5.13 if zeta of Assumption 5.12 is standard normal.

    2 E[f_1 P(f_1 is selected)], with probability Phi(log(f_1 / f_2) / (sqrt(2) sigma)), by the
    midpoint rule with ``nodes`` points in each uniform part.
    """
    if sigma == 0:
        return max_loss(residuals, 2)
    middles = (torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes
    sizes, chances = [], []
    for weight, low, high in residuals:
        inner = middles if low < high else middles[:1]
        sizes.append((low + (high - low) * inner).abs())
        chances.append(torch.full_like(inner, weight / len(inner)))
    size, chance = torch.cat(sizes), torch.cat(chances)
    logs = 2 * size.clamp(min=1e-150).log()
    selected = torch.special.ndtr((logs[:, None] - logs[None]) / (math.sqrt(2) * sigma))
    return float((chance * size.square()) @ (selected @ chance))


def infimum(ratio: Callable[[float], float]) -> float:
    """Smallest value of ``ratio`` over offsets of 1e-3 to 1e6 on both sides.

    A logarithmic grid, refined around its smallest value. The limit of distant w is missed by about
    1e-6.
    """
    steps = [10 ** (exponent / 20) for exponent in range(-60, 121)]
    offsets = [-step for step in reversed(steps)] + steps
    best = min(range(len(offsets)), key=[ratio(offset) for offset in offsets].__getitem__)
    low, high = offsets[max(0, best - 1)], offsets[min(len(offsets) - 1, best + 1)]
    return min(ratio(low + (high - low) * step / 40) for step in range(41))


class Constants(NamedTuple):
    """rho_R* (Definition 5.6), or rho_{2,approx}* with noise (Definition 5.13), and Delta_R."""

    loss_ratio: float
    max_loss_at_minimum: float


def constants(problem: Problem, num_candidates: int, sigma: float = 0.0) -> Constants:
    """The constants of a problem; ``sigma`` above 0 is for ``num_candidates`` 2 only."""

    def ratio(offset: float) -> float:
        residuals = problem.residuals(offset)
        selected = selected_loss(residuals, sigma) if sigma else max_loss(residuals, num_candidates)
        return selected / max_loss(residuals, 1)

    return Constants(infimum(ratio), max_loss(problem.residuals(0.0), num_candidates))
