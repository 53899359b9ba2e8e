"""Least squares whose residuals are mixtures of uniform numbers, at every w.

f(w, (a, b)) = (a.w - b)^2 / 2 with |a| <= 1: convex, 1-smooth, and 0 at some w for each sample by
itself (Assumptions 5.1 to 5.4 with L = 1). The expected largest of R losses is then an integral of
a piecewise polynomial, see `exact`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Uniform(NamedTuple):
    """A part of a mixture: uniform on [low, high], a point where both are equal."""

    weight: float
    low: float
    high: float


@dataclass(frozen=True)
class Problem(ABC):
    """Samples (a, b) and what is known of their losses.

    Attributes:
        outliers: share q of the samples whose b is off, in (0, 1).
    """

    outliers: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.outliers < 1:
            raise ValueError(f"outliers={self.outliers:g} must be in (0, 1), such as 0.1")

    smoothness = 1.0
    dimension = 1

    @property
    @abstractmethod
    def minimiser(self) -> Tensor:
        """w*, (dimension,); there is one only."""

    @abstractmethod
    def mean_loss(self, weights: Tensor) -> Tensor:
        """F(w) of weights (..., dimension) -> (...)."""

    @abstractmethod
    def residuals(self, offset: float) -> list[Uniform]:
        """Distribution, up to signs, of a.w - b at w = w* + offset along the first axis."""

    @abstractmethod
    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Samples: a (*shape, dimension) and b (*shape,), fp64."""

    def _are_outliers(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64) < self.outliers


class OneSided(Problem):
    """One parameter. a is uniform on [0, 1] and b = 0; outliers all have a = 1, b = 1.

    What is chosen too often all pulls one way, so greedy SGD ends elsewhere than SGD.
    """

    @property
    def minimiser(self) -> Tensor:
        """E[a b] / E[a^2] = q / (q + (1 - q) / 3)."""
        clean, outlying = (1 - self.outliers) / 3, self.outliers
        return torch.tensor([outlying / (outlying + clean)], dtype=torch.float64)

    def mean_loss(self, weights: Tensor) -> Tensor:
        weight = weights.squeeze(-1)
        clean, outlying = weight.square() / 3, (weight - 1).square()
        return ((1 - self.outliers) * clean + self.outliers * outlying) / 2

    def residuals(self, offset: float) -> list[Uniform]:
        weight = float(self.minimiser) + offset
        clean = Uniform(1 - self.outliers, min(0.0, weight), max(0.0, weight))
        return [clean, Uniform(self.outliers, weight - 1, weight - 1)]

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        outlying = self._are_outliers(shape, generator)
        features = torch.rand(shape, generator=generator, dtype=torch.float64)
        return features.where(~outlying, 1.0).unsqueeze(-1), outlying.double()


class Symmetric(Problem):
    """Three parameters. a is uniform on the unit sphere and b = 0; for outliers b is 1 or -1.

    a.w is uniform on [-|w|, |w|] for any w (Archimedes). What is chosen too often cancels, so
    greedy SGD ends where SGD does.
    """

    dimension = 3

    @property
    def minimiser(self) -> Tensor:
        return torch.zeros(3, dtype=torch.float64)

    def mean_loss(self, weights: Tensor) -> Tensor:
        return (weights.square().sum(dim=-1) / 3 + self.outliers) / 2

    def residuals(self, offset: float) -> list[Uniform]:
        reach = abs(offset)
        clean = Uniform(1 - self.outliers, -reach, reach)
        return [clean, Uniform(self.outliers, 1 - reach, 1 + reach)]

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        directions = torch.randn((*shape, 3), generator=generator, dtype=torch.float64)
        signs = torch.rand(shape, generator=generator, dtype=torch.float64).sub(0.5).sign()
        targets = signs * self._are_outliers(shape, generator)
        return directions / directions.norm(dim=-1, keepdim=True), targets
