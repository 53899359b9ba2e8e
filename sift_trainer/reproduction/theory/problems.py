"""Least-squares problems and their F*, Delta_R, rho_R* and rho_{2,approx}* by integration.

f(w, (a, b)) = (a.w - b)^2 / 2 with |a| <= 1 is convex and 1-smooth, and each sample's loss is 0 at
some w (Assumptions 5.1 to 5.4 with L = 1). A tenth of the samples are outliers. The residuals are
mixtures of uniform distributions at every w.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

OUTLIERS = 0.1
SMOOTHNESS = 1.0


Uniform = tuple[float, float, float]
"""A part of a mixture: its weight, and both ends; a point if these are equal."""


class Problem(ABC):
    """Samples (a, b) and their mean loss F(w) = F* + curvature |w - w*|^2 / 2."""

    minimiser: Tensor  # w*, (dimension,)
    minimum_loss: float  # F*
    curvature: float

    def mean_loss(self, weights: Tensor) -> Tensor:
        """F(w) of weights (..., dimension) -> (...)."""
        squares = (weights - self.minimiser).square().sum(dim=-1)
        return self.minimum_loss + self.curvature * squares / 2

    @abstractmethod
    def residuals(self, offset: float) -> tuple[Uniform, ...]:
        """Distribution, up to signs, of a.w - b at w = w* + offset along the first axis."""

    @abstractmethod
    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Samples: a (*shape, dimension) and b (*shape,), fp64."""


class OneSided(Problem):
    """One parameter. a is uniform on [0, 1] and b = 0; outliers have a = 1 and b = 1."""

    curvature = (1 - OUTLIERS) / 3 + OUTLIERS
    minimiser = torch.tensor([OUTLIERS / curvature], dtype=torch.float64)
    minimum_loss = OUTLIERS * (1 - OUTLIERS / curvature) / 2

    def residuals(self, offset: float) -> tuple[Uniform, ...]:
        weight = float(self.minimiser) + offset
        clean = (1 - OUTLIERS, min(0.0, weight), max(0.0, weight))
        return clean, (OUTLIERS, weight - 1, weight - 1)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        outlying = torch.rand(shape, generator=generator, dtype=torch.float64) < OUTLIERS
        features = torch.rand(shape, generator=generator, dtype=torch.float64)
        return features.where(~outlying, 1.0).unsqueeze(-1), outlying.double()


class Symmetric(Problem):
    """Three parameters. a is uniform on the unit sphere and b = 0; outliers have b = 1 or b = -1.

    a.w is uniform on [-|w|, |w|] for any w (Archimedes).
    """

    curvature = 1 / 3
    minimiser = torch.zeros(3, dtype=torch.float64)
    minimum_loss = OUTLIERS / 2

    def residuals(self, offset: float) -> tuple[Uniform, ...]:
        radius = abs(offset)
        return (1 - OUTLIERS, -radius, radius), (OUTLIERS, 1 - radius, 1 + radius)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        directions = torch.randn((*shape, 3), generator=generator, dtype=torch.float64)
        signs = torch.rand(shape, generator=generator, dtype=torch.float64).sub(0.5).sign()
        outlying = torch.rand(shape, generator=generator, dtype=torch.float64) < OUTLIERS
        return directions / directions.norm(dim=-1, keepdim=True), signs * outlying


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
def selected_loss(residuals: tuple[Uniform, ...], sigma: float) -> float:
    """F_{2,approx}(w) of Definition 5.13 if zeta of Assumption 5.12 is standard normal.

    2 E[f_1 P(f_1 is selected)], with probability Phi(log(f_1 / f_2) / (sqrt(2) sigma)), by the
    midpoint rule with 200 points in each uniform part.
    """
    if sigma == 0:
        return max_loss(residuals, 2)
    middles = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
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
    """Smallest value of ``ratio`` over offsets of 1e-3 to 1e6 on both sides, by a refined grid."""
    steps = [10 ** (exponent / 20) for exponent in range(-60, 121)]
    offsets = [-step for step in reversed(steps)] + steps
    best = min(range(len(offsets)), key=[ratio(offset) for offset in offsets].__getitem__)
    low, high = offsets[max(0, best - 1)], offsets[min(len(offsets) - 1, best + 1)]
    return min(ratio(low + (high - low) * step / 40) for step in range(41))


def constants(problem: Problem, num_candidates: int, sigma: float = 0.0) -> dict[str, float]:
    """rho_R* (Definition 5.6), or rho_{2,approx}* with noise (Definition 5.13), and Delta_R.

    ``sigma`` above 0 is for ``num_candidates`` 2 only.
    """

    def ratio(offset: float) -> float:
        residuals = problem.residuals(offset)
        selected = selected_loss(residuals, sigma) if sigma else max_loss(residuals, num_candidates)
        return selected / max_loss(residuals, 1)

    at_minimum = max_loss(problem.residuals(0.0), num_candidates)
    return {"loss_ratio": infimum(ratio), "max_loss_at_minimum": at_minimum}
