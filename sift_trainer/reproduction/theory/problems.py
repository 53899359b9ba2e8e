"""Least-squares problems whose residuals are mixtures of uniform distributions at every w.

f(w, (a, b)) = (a.w - b)^2 / 2 with |a| <= 1 is convex and 1-smooth, and each sample's loss is 0 at
some w (Assumptions 5.1 to 5.4 with L = 1). A tenth of the samples are outliers.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

OUTLIERS = 0.1
SMOOTHNESS = 1.0


class Uniform(NamedTuple):
    """A part of a mixture: uniform on [low, high], or a point if both are equal."""

    weight: float
    low: float
    high: float


class Problem(ABC):
    """Samples (a, b) and their mean loss F(w) = F* + curvature |w - w*|^2 / 2.

    Attributes:
        minimiser: w*, (dimension,).
        minimum_loss: F*.
        curvature: of F, the same in all directions.
    """

    minimiser: Tensor
    minimum_loss: float
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
    """One parameter. a is uniform on [0, 1] and b = 0; outliers have a = 1 and b = 1.

    All outliers pull in one direction, so greedy SGD converges to another point than SGD.
    """

    curvature = (1 - OUTLIERS) / 3 + OUTLIERS
    minimiser = torch.tensor([OUTLIERS / curvature], dtype=torch.float64)
    minimum_loss = OUTLIERS * (1 - OUTLIERS / curvature) / 2

    def residuals(self, offset: float) -> tuple[Uniform, ...]:
        weight = float(self.minimiser) + offset
        clean = Uniform(1 - OUTLIERS, min(0.0, weight), max(0.0, weight))
        return clean, Uniform(OUTLIERS, weight - 1, weight - 1)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        outlying = torch.rand(shape, generator=generator, dtype=torch.float64) < OUTLIERS
        features = torch.rand(shape, generator=generator, dtype=torch.float64)
        return features.where(~outlying, 1.0).unsqueeze(-1), outlying.double()


class Symmetric(Problem):
    """Three parameters. a is uniform on the unit sphere and b = 0; outliers have b = 1 or b = -1.

    a.w is uniform on [-|w|, |w|] for any w (Archimedes). The outliers' pulls cancel, so greedy SGD
    converges to the same point as SGD.
    """

    curvature = 1 / 3
    minimiser = torch.zeros(3, dtype=torch.float64)
    minimum_loss = OUTLIERS / 2

    def residuals(self, offset: float) -> tuple[Uniform, ...]:
        radius = abs(offset)
        clean = Uniform(1 - OUTLIERS, -radius, radius)
        return clean, Uniform(OUTLIERS, 1 - radius, 1 + radius)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        directions = torch.randn((*shape, 3), generator=generator, dtype=torch.float64)
        signs = torch.rand(shape, generator=generator, dtype=torch.float64).sub(0.5).sign()
        outlying = torch.rand(shape, generator=generator, dtype=torch.float64) < OUTLIERS
        return directions / directions.norm(dim=-1, keepdim=True), signs * outlying
