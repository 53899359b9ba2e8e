"""F*, Delta_R, rho_R* and rho_{2,approx}* of a problem, without drawing a sample."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from sift_trainer.greedy_sgd.problems import Problem, Uniform


@cache
def _gauss_legendre(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [-1, 1], by Golub and Welsch; exact for degrees below 2 * count."""
    ranks = torch.arange(1, count, dtype=torch.float64)
    beside = ranks / (4 * ranks.square() - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return nodes, 2 * vectors[0].square()


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
    """F_R(w) of Definition 5.6, the expected largest of R losses r^2 / 2; the mean one for R = 1.

    The integral of t (1 - P(|r| <= t)^R) over t, exact but for rounding: between the ends of the
    uniform parts it is a polynomial of degree R + 1.
    """
    nodes, node_weights = _gauss_legendre(num_candidates // 2 + 2)
    ends = sorted({0.0, *(abs(end) for _, low, high in residuals for end in (low, high))})
    total = 0.0
    for low, high in pairwise(ends):
        size = (high + low) / 2 + (high - low) / 2 * nodes
        beyond = 1 - _cdf_of_size(size, residuals) ** num_candidates
        total += float((node_weights * size * beyond).sum()) * (high - low) / 2
    return total


def selected_loss(residuals: Sequence[Uniform], sigma: float, nodes: int = 200) -> float:
    """F_{2,approx}(w) of Definition 5.13 where zeta of Assumption 5.12 is standard normal.

    2 E[f_1 P(f_1 is chosen)], where that chance is Phi(log(f_1 / f_2) / (sqrt(2) sigma)); by the
    midpoint rule, with ``nodes`` points in each uniform part.
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
    chosen = torch.special.ndtr((logs[:, None] - logs[None]) / (math.sqrt(2) * sigma))
    return float((chance * size.square()) @ (chosen @ chance))


def infimum(ratio: Callable[[float], float]) -> float:
    """Least value of a ratio over offsets of 1e-3 to 1e6 on either side, searched twice as fine.

    A grid misses the infimum by what a smooth function changes within a step near its least value,
    and the limit of far away w by about 1e-6.
    """
    steps = [10 ** (exponent / 20) for exponent in range(-60, 121)]
    offsets = [-step for step in reversed(steps)] + steps
    best = min(range(len(offsets)), key=[ratio(offset) for offset in offsets].__getitem__)
    low, high = offsets[max(0, best - 1)], offsets[min(len(offsets) - 1, best + 1)]
    return min(ratio(low + (high - low) * step / 40) for step in range(41))


@dataclass(frozen=True)
class Constants:
    """What the theorems ask of a problem.

    Attributes:
        minimum_loss: F*.
        max_loss_at_minimum: Delta_R.
        loss_ratio: rho_R*, or rho_{2,approx}* where there is noise.
    """

    minimum_loss: float
    max_loss_at_minimum: float
    loss_ratio: float


def constants(problem: Problem, num_candidates: int, sigma: float = 0.0) -> Constants:
    """F*, Delta_R and rho_R* of a problem (Definition 5.6), or rho_{2,approx}* (Definition 5.13).

    Raises:
        ValueError: if there is noise and ``num_candidates`` is not 2.
    """
    if sigma > 0 and num_candidates != 2:
        raise ValueError(f"num_candidates={num_candidates} must be 2 where sigma is above 0")

    def ratio(offset: float) -> float:
        residuals = problem.residuals(offset)
        chosen = selected_loss(residuals, sigma) if sigma else max_loss(residuals, num_candidates)
        return chosen / max_loss(residuals, 1)

    at_minimum = problem.residuals(0.0)
    return Constants(max_loss(at_minimum, 1), max_loss(at_minimum, num_candidates), infimum(ratio))
