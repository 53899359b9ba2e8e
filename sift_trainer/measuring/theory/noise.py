"""The noise sigma of approximate losses, and how large it may be: Section 5.1, for R = 2.

Assumption 5.12: approximate loss = exact loss * exp(mu(w) + sigma zeta), where zeta is independent
and identically distributed over samples, with mean 0 and variance 1. sigma is a standard deviation
of natural logarithms and has no unit.
"""

import math
from dataclasses import dataclass

import torch

from sift_trainer.measuring.theory.checks import (
    Values,
    groups_of_equal,
    require,
    same_shape,
    sample_losses,
)


def check_ratio_of_two(ratio: float) -> None:
    wanted = "in [1, 2], because the larger of two losses is at most their sum; such as 1.5"
    require(1 <= ratio <= 2, "loss_ratio", ratio, wanted)


def sigma_max(loss_ratio: float) -> float:
    """Corollary 5.16: log(18 rho / (25 - 7 rho)) / sqrt(2), below which p(sigma) rho_2* > 1.

    For rho_2* above 1.395 it exceeds `theory.SIGMA_LIMIT`, so the corollary does not follow from
    Theorem 5.15 there. It still holds, by `theory.p_sigma_symmetric`.

    Args:
        loss_ratio: rho_2*, in [1, 2].

    Raises:
        ValueError: if ``loss_ratio`` is outside its range.
    """
    check_ratio_of_two(loss_ratio)
    return math.log(18 * loss_ratio / (25 - 7 * loss_ratio)) / math.sqrt(2)


@dataclass(frozen=True)
class NoiseFit:
    """Assumption 5.12, fitted to samples.

    Attributes:
        sigma: standard deviation of log(approximate / exact) within the steps.
        standard_error: of ``sigma``, for many samples.
        slope: of the log ratio over the log of the exact loss, within the steps. It is 0 under the
            assumption. Exits that shrink the losses towards their mean have a negative slope;
            ``sigma`` then counts the shrinking as noise although it does not change the order.
        residual_sigma: standard deviation of the log ratio after the slope is removed.
        correlation: of log ratio and log loss, in [-1, 1]; about 1 / sqrt(samples) by chance.
        samples: number of samples.
    """

    sigma: float
    standard_error: float
    slope: float
    residual_sigma: float
    correlation: float
    samples: int

    @property
    def equivalent_sigma(self) -> float:
        """sigma of the noise that leads to the same selection: residual_sigma / (1 + slope).

        exact^(1 + slope) * exp(noise) has the order of exact * exp(noise / (1 + slope)), which
        satisfies Assumption 5.12 if the remaining noise is independent of the loss. `math.inf` for
        a slope of -1 or less, where the order is random or reversed.
        """
        return self.residual_sigma / (1 + self.slope) if self.slope > -1 else math.inf


def fit_noise(losses: Values, approximate_losses: Values, steps: Values | None = None) -> NoiseFit:
    """sigma of Assumption 5.12 from exact and approximate losses of the same samples.

    The assumption has one factor exp(mu(w)) for all samples at the same weights, so the mean of
    log(approximate / exact) is subtracted for each step. Everything else counts as ``sigma``.

    Args:
        losses: (n,) exact losses, above 0.
        approximate_losses: (n,) approximate losses, above 0, in any unit.
        steps: (n,) equal numbers for samples scored at the same weights; None if all were.

    Raises:
        ValueError: if a loss is not above 0, shapes differ, there are fewer than two samples more
            than steps, or all exact losses of each step are equal.
    """
    exact = sample_losses("losses", losses, 3, positive=True)
    approximate = sample_losses("approximate_losses", approximate_losses, 3, positive=True)
    same_shape("approximate_losses", approximate, "losses", exact)
    weights = torch.zeros(len(exact)) if steps is None else torch.as_tensor(steps).detach().cpu()
    same_shape("steps", weights, "losses", exact)
    group, sizes = groups_of_equal(weights)
    free = len(exact) - len(sizes)
    require(free >= 2, "samples - steps", free, "at least 2: pass more samples of each step")

    def centred(values: torch.Tensor) -> torch.Tensor:
        sums = torch.zeros(len(sizes), dtype=torch.float64).index_add_(0, group, values)
        return values - (sums / sizes)[group]

    ratio, level = centred((approximate / exact).log()), centred(exact.log())
    variance, spread = float(ratio.square().sum() / free), float(level.square().sum() / free)
    require(spread > 0, "variance of losses within steps", spread, "above 0: losses are all equal")
    covariance = float((ratio * level).sum() / free)
    residual = ratio - covariance / spread * level
    sigma = math.sqrt(variance)
    error_of_variance = math.sqrt(max(float(ratio.pow(4).mean()) - variance**2, 0.0) / free)
    return NoiseFit(
        sigma=sigma,
        standard_error=error_of_variance / (2 * sigma) if sigma else 0.0,
        slope=covariance / spread,
        residual_sigma=math.sqrt(float(residual.square().sum() / (free - 1))),
        correlation=covariance / math.sqrt(variance * spread) if sigma else 0.0,
        samples=len(exact),
    )
