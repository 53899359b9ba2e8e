"""What approximate losses cost: the noise sigma, p(sigma), sigma_max (section 5.1; R = 2).

Assumption 5.12: approximate loss = exact loss * exp(mu(w) + sigma zeta), zeta independent and
identically distributed over samples, with mean 0 and variance 1. sigma has no unit: it is a
standard deviation of natural logarithms.
"""

import math
from dataclasses import dataclass

import torch

from sift_trainer.theory.checks import (
    Values,
    groups_of,
    like,
    not_negative,
    require,
    sample_losses,
)

SIGMA_LIMIT = 1 / (2 * math.sqrt(2))
"""The greatest sigma of Theorem 5.15, about 0.354."""


def p_sigma(sigma: float) -> float:
    """p(sigma) = 1 - 0.72 (1 - exp(-sqrt(2) sigma)) of Theorem 5.15.

    F_{2,approx}(w) >= p(sigma) F_2(w), and the same for rho_2(w) and rho_2*. The constant is not
    tight: Lemma C.1 has t* >= sqrt(2) sigma / sqrt(4 sqrt(e) - 5) = 0.79 sqrt(2) sigma and goes on
    with 0.62.

    Raises:
        ValueError: if ``sigma`` is negative or above `SIGMA_LIMIT`, where the theorem says nothing;
            `p_sigma_symmetric` does.
    """
    not_negative("sigma", sigma, 0.2)
    require(
        sigma <= SIGMA_LIMIT,
        "sigma",
        sigma,
        f"at most 1 / (2 sqrt(2)) = {SIGMA_LIMIT:.4f} in Theorem 5.15, such as 0.3; "
        "p_sigma_symmetric(sigma) bounds the same ratio at any sigma",
    )
    return 1 - 0.72 * (1 - math.exp(-math.sqrt(2) * sigma))


def p_sigma_symmetric(sigma: float) -> float:
    """(1 + exp(-sqrt(2) sigma)) / 2, which may replace p(sigma), at any sigma. Not in the paper.

    The proof of Theorem 5.15 bounds P(Z > s) for Z = zeta_2 - zeta_1 by Cantelli's inequality. But
    Z, the difference of two alike, is symmetric: P(Z > s) = P(|Z| > s) / 2 <= min(1/2, 1 / s^2) by
    Chebyshev's, as its variance is 2. What Equation 34 takes off is then at most (1 - e^-t)
    min(1/2, sigma^2 / t^2), t = log(f1 / f2), which is largest at t = sqrt(2) sigma: (1 -
    exp(-sqrt(2) sigma)) / 2. So Theorem 5.15 also holds, with 1/2 for 0.72, without its limit on
    sigma, and so does Corollary 5.16. It never falls below 1/2.

    Raises:
        ValueError: if ``sigma`` is negative.
    """
    not_negative("sigma", sigma, 0.2)
    return (1 + math.exp(-math.sqrt(2) * sigma)) / 2


def _ratio_of_two(loss_ratio: float) -> None:
    require(
        1 <= loss_ratio <= 2,
        "loss_ratio",
        loss_ratio,
        "in [1, 2], as the larger of two losses is at most their sum; such as 1.5",
    )


def sigma_max(loss_ratio: float) -> float:
    """Corollary 5.16: log(18 rho / (25 - 7 rho)) / sqrt(2), below which p(sigma) rho_2* > 1.

    Above rho_2* = 1.395 this exceeds `SIGMA_LIMIT`, up to which alone Theorem 5.15 is proved: the
    corollary as it is printed does not follow there. It holds all the same, by
    `p_sigma_symmetric`.

    Args:
        loss_ratio: rho_2*, in [1, 2].

    Raises:
        ValueError: if ``loss_ratio`` is outside its range.
    """
    _ratio_of_two(loss_ratio)
    return math.log(18 * loss_ratio / (25 - 7 * loss_ratio)) / math.sqrt(2)


def sigma_max_symmetric(loss_ratio: float) -> float:
    """log(rho / (2 - rho)) / sqrt(2): Corollary 5.16 with `p_sigma_symmetric`; infinite at rho = 2.

    Beyond either sigma_max nothing is lost but the proof of a gain: of two losses the larger is
    chosen at least every other time, whatever sigma, so rho_{2,approx} is never below 1 under
    Assumption 5.12.

    Raises:
        ValueError: if ``loss_ratio`` is outside [1, 2].
    """
    _ratio_of_two(loss_ratio)
    if loss_ratio == 2:
        return math.inf
    return math.log(loss_ratio / (2 - loss_ratio)) / math.sqrt(2)


@dataclass(frozen=True)
class NoiseFit:
    """Assumption 5.12, fitted to samples.

    Attributes:
        sigma: standard deviation of log(approximate / exact) within the steps.
        standard_error: of ``sigma``, for many samples.
        slope: of the log ratio against the log of the exact loss, within the steps. 0 under the
            assumption, by which the noise knows nothing of the loss. Exits that shrink the losses
            towards their mean have a slope below 0, and ``sigma`` then counts that shrinking, which
            leaves the order as it is, as noise; at -1 the approximate loss tells nothing.
        residual_sigma: standard deviation of the log ratio that is left by the slope.
        correlation: of log ratio and log loss, in [-1, 1]; about 1 / sqrt(samples) is chance.
        samples: how many there were.
    """

    sigma: float
    standard_error: float
    slope: float
    residual_sigma: float
    correlation: float
    samples: int

    @property
    def equivalent_sigma(self) -> float:
        """sigma of the noise that leads to the same choices: residual_sigma / (1 + slope).

        exact^(1 + slope) * exp(noise) is ordered as exact * exp(noise / (1 + slope)) is, and that
        satisfies Assumption 5.12 if the noise that is left is independent of the loss. `math.inf`
        for a slope of -1 or less, where the order is that of noise or reversed.
        """
        return self.residual_sigma / (1 + self.slope) if self.slope > -1 else math.inf


def fit_noise(losses: Values, approximate_losses: Values, steps: Values | None = None) -> NoiseFit:
    """sigma of Assumption 5.12 from exact and approximate losses of the same samples.

    The assumption has one factor exp(mu(w)) for all samples at the same weights, and no more. So
    the mean of log(approximate / exact) is taken off once for each step. A factor for each sample,
    an offset or an exponent are not in it, and all that they would explain is ``sigma``. But
    choices depend on the order of approximate losses alone, so that any increasing function of
    these, the same for all samples of a step, may take their place in Theorem 5.15: that with an
    exponent is `NoiseFit.equivalent_sigma`.

    Args:
        losses: (n,) exact losses, above 0.
        approximate_losses: (n,) approximate ones, above 0; the units do not matter.
        steps: (n,) numbers that are equal for samples scored at the same weights; None if all were.

    Raises:
        ValueError: if a loss is not above 0, shapes differ, fewer than two samples more than steps
            are left to estimate from, or all exact losses of each step are equal.
    """
    exact = sample_losses("losses", losses, 3, zero=False)
    approximate = sample_losses("approximate_losses", approximate_losses, 3, zero=False)
    like("approximate_losses", approximate, "losses", exact)
    weights = torch.zeros(len(exact)) if steps is None else torch.as_tensor(steps).detach().cpu()
    like("steps", weights, "losses", exact)
    group, sizes = groups_of(weights)
    free = len(exact) - len(sizes)
    require(free >= 2, "samples - steps", free, "at least 2: pass more samples of each step")

    def within(values: torch.Tensor) -> torch.Tensor:
        sums = torch.zeros(len(sizes), dtype=torch.float64).index_add_(0, group, values)
        centred: torch.Tensor = values - (sums / sizes)[group]
        return centred

    ratio, level = within((approximate / exact).log()), within(exact.log())
    variance, spread = float(ratio.square().sum() / free), float(level.square().sum() / free)
    require(
        spread > 0, "variance of losses within steps", spread, "above 0: equal losses have no order"
    )
    shared = float((ratio * level).sum() / free)
    left = ratio - shared / spread * level
    fourth = float(ratio.pow(4).mean())
    sigma = math.sqrt(variance)
    error = math.sqrt(max(fourth - variance**2, 0.0) / free) / (2 * sigma) if sigma else 0.0
    return NoiseFit(
        sigma=sigma,
        standard_error=error,
        slope=shared / spread,
        residual_sigma=math.sqrt(float(left.square().sum() / (free - 1))),
        correlation=shared / math.sqrt(variance * spread) if sigma else 0.0,
        samples=len(exact),
    )
