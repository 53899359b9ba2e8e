"""The noise sigma of approximate losses, and what it costs: Section 5.1, for R = 2.

Assumption 5.12: approximate loss = exact loss * exp(mu(w) + sigma zeta), where zeta is independent
and identically distributed over samples, with mean 0 and variance 1. sigma is a standard deviation
of natural logarithms and has no unit.
"""

import math
from dataclasses import dataclass

import torch

from sift_trainer.theory.checks import (
    Values,
    groups_of_equal,
    require,
    same_shape,
    sample_losses,
)

SIGMA_LIMIT = 1 / (2 * math.sqrt(2))
"""The largest sigma of Theorem 5.15, about 0.354."""


def p_sigma(sigma: float) -> float:
    """p(sigma) = 1 - 0.72 (1 - exp(-sqrt(2) sigma)) of Theorem 5.15.

    F_{2,approx}(w) >= p(sigma) F_2(w), and the same for rho_2(w) and rho_2*. The constant is not
    tight: Lemma C.1 proves t* >= 0.79 sqrt(2) sigma, and continues with 0.62.

    Raises:
        ValueError: if ``sigma`` is not in [0, `SIGMA_LIMIT`], the range of the theorem.
    """
    wanted = f"in [0, 1 / (2 sqrt(2))] = [0, {SIGMA_LIMIT:.4f}] in Theorem 5.15, such as 0.3"
    require(0 <= sigma <= SIGMA_LIMIT, "sigma", sigma, f"{wanted}; or use p_sigma_symmetric")
    return 1 - 0.72 * (1 - math.exp(-math.sqrt(2) * sigma))


def p_sigma_symmetric(sigma: float) -> float:
    """(1 + exp(-sqrt(2) sigma)) / 2: a sharper p(sigma), for any sigma. Not in the paper.

    The proof of Theorem 5.15 bounds P(Z > s), Z = zeta_2 - zeta_1, by Cantelli's inequality. But Z
    is symmetric with variance 2, so Chebyshev's inequality gives P(Z > s) = P(|Z| > s) / 2 <=
    min(1/2, 1 / s^2). What Equation 34 subtracts is then at most (1 - e^-t) min(1/2, sigma^2 /
    t^2), t = log(f1 / f2). Its maximum, at t = sqrt(2) sigma, is (1 - exp(-sqrt(2) sigma)) / 2.
    Theorem 5.15 and Corollary 5.16 therefore hold with 1/2 for 0.72, and for any sigma.

    Raises:
        ValueError: if ``sigma`` is negative.
    """
    require(sigma >= 0, "sigma", sigma, "at least 0, such as 0.2")
    return (1 + math.exp(-math.sqrt(2) * sigma)) / 2


def _check_ratio_of_two(ratio: float) -> None:
    wanted = "in [1, 2], because the larger of two losses is at most their sum; such as 1.5"
    require(1 <= ratio <= 2, "loss_ratio", ratio, wanted)


def sigma_max(loss_ratio: float) -> float:
    """Corollary 5.16: log(18 rho / (25 - 7 rho)) / sqrt(2), below which p(sigma) rho_2* > 1.

    For rho_2* above 1.395 it exceeds `SIGMA_LIMIT`, so the corollary does not follow from Theorem
    5.15 there. It still holds, by `p_sigma_symmetric`.

    Args:
        loss_ratio: rho_2*, in [1, 2].

    Raises:
        ValueError: if ``loss_ratio`` is outside its range.
    """
    _check_ratio_of_two(loss_ratio)
    return math.log(18 * loss_ratio / (25 - 7 * loss_ratio)) / math.sqrt(2)


def sigma_max_symmetric(loss_ratio: float) -> float:
    """log(rho / (2 - rho)) / sqrt(2): Corollary 5.16 with `p_sigma_symmetric`; infinite at rho = 2.

    Above either sigma_max only the proof of a gain is lost: with Assumption 5.12 and any sigma, the
    larger of two losses is selected at least half of the time, so rho_{2,approx} is at least 1.

    Raises:
        ValueError: if ``loss_ratio`` is outside [1, 2].
    """
    _check_ratio_of_two(loss_ratio)
    if loss_ratio == 2:
        return math.inf
    return math.log(loss_ratio / (2 - loss_ratio)) / math.sqrt(2)


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
