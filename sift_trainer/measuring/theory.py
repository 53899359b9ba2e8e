"""The paper's quantities as measured on a model: rho_R, sigma and p_j."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

__all__ = [
    "Agreement",
    "NoiseFit",
    "approximate_loss_ratio",
    "expected_selected_loss",
    "fit_noise",
    "loss_ratio",
    "pairwise_agreement",
    "sigma_max",
]

Values = Tensor | Sequence[float]
"""One number per sample: a tensor of any floating type and device, or a sequence."""


def require(holds: bool, name: str, value: float, wanted: str) -> None:
    """Raise `ValueError` unless ``holds`` is true and ``value`` is a number (not NaN)."""
    if not holds or math.isnan(value):
        raise ValueError(f"{name}={value:g} must be {wanted}")


def _of_samples(losses: Values, scores: Values, least: int) -> tuple[Tensor, Tensor]:
    """Both as fp64 tensors (n,) on the CPU, n of at least ``least``, with finite numbers."""
    exact, by = (
        torch.as_tensor(values, dtype=torch.float64).detach().cpu() for values in (losses, scores)
    )
    if exact.dim() != 1 or len(exact) < least or exact.shape != by.shape:
        raise ValueError(
            f"losses have shape {tuple(exact.shape)} and scores {tuple(by.shape)}; "
            f"both must be (n,) with n of at least {least}"
        )
    if not bool((exact + by).isfinite().all()):
        raise ValueError("losses and scores must be finite: leave out samples without a loss")
    return exact, by


def _chance_to_lead(count: int, num_candidates: int) -> Tensor:
    """(n,) chance that the i-th smallest of n leads a random set of R: C(i-1, R-1) / C(n, R)."""
    ranks = torch.arange(count, 0, -1, dtype=torch.float64)  # n, n-1, ..., 1
    falls = (ranks - num_candidates).clamp(min=0) / (ranks - 1).clamp(min=1)  # rank i to i - 1
    chances = torch.ones(count, dtype=torch.float64)
    chances[1:] = falls[:-1].cumprod(dim=0)
    return (chances * num_candidates / count).flip(0)


def expected_selected_loss(losses: Values, scores: Values, num_candidates: int = 2) -> float:
    """F_{R,approx}(w) of Definition 5.13: the expected exact loss of the selected candidate.

    With ``scores`` equal to ``losses``, F_R(w) of Definition 5.6.

    Args:
        losses: (n,) exact losses f(w, x) of independent samples at one w, at least 0.
        scores: (n,) approximate losses or other scores. Ties are broken at random.
        num_candidates: R; the candidate with the largest score is selected.

    Returns:
        The mean over all sets of R of the n samples, in units of the loss.

    Raises:
        ValueError: if there are fewer than R samples, the shapes differ, or a loss is negative.
    """
    exact, by = _of_samples(losses, scores, num_candidates)
    require(float(exact.min()) >= 0, "smallest loss", float(exact.min()), "at least 0")
    unique: Callable[..., tuple[Tensor, Tensor, Tensor]] = torch.unique
    _, group, sizes = unique(by, return_inverse=True, return_counts=True)
    chances = torch.zeros(len(sizes), dtype=torch.float64)
    chances.index_add_(0, group.sort().values, _chance_to_lead(len(by), num_candidates))
    return float(((chances / sizes)[group] * exact).sum())


def loss_ratio(losses: Values, num_candidates: int = 2) -> float:
    """rho_R(w) of Definition 5.6: expected largest of R losses over the mean loss, in [1, R].

    rho_R* is an infimum over all w: the smallest ratio of a run is only an upper bound on it.

    Raises:
        ValueError: as `approximate_loss_ratio`.
    """
    return approximate_loss_ratio(losses, losses, num_candidates)


def approximate_loss_ratio(losses: Values, scores: Values, num_candidates: int = 2) -> float:
    """rho_{R,approx}(w) of Definition 5.13: expected selected loss over the mean loss.

    At most ``loss_ratio(losses, num_candidates)``; 1 for scores that are independent of the loss,
    less for scores that prefer small losses. Arguments as in `expected_selected_loss`.

    Raises:
        ValueError: as `expected_selected_loss`, and if all losses are 0.
    """
    selected = expected_selected_loss(losses, scores, num_candidates)
    mean = float(torch.as_tensor(losses, dtype=torch.float64).detach().cpu().mean())
    require(mean > 0, "mean of losses", mean, "above 0: the ratio is undefined otherwise")
    return selected / mean


def sigma_max(loss_ratio: float) -> float:
    """Corollary 5.16: log(18 rho / (25 - 7 rho)) / sqrt(2), below which p(sigma) rho_2* > 1.

    Raises:
        ValueError: if ``loss_ratio`` (rho_2*) is outside [1, 2].
    """
    require(1 <= loss_ratio <= 2, "loss_ratio", loss_ratio, "in [1, 2], such as 1.5")
    return math.log(18 * loss_ratio / (25 - 7 * loss_ratio)) / math.sqrt(2)


@dataclass(frozen=True)
class NoiseFit:
    """Assumption 5.12, approximate = exact * exp(mu(w) + sigma zeta), fitted to samples at one w.

    Attributes:
        sigma: standard deviation of log(approximate / exact); no unit.
        standard_error: of ``sigma``, for many samples.
        slope: of the log ratio over the log of the exact loss. It is 0 under the assumption. Exits
            that shrink the losses towards their mean have a negative slope; ``sigma`` then counts
            the shrinking as noise although it does not change the order.
        residual_sigma: standard deviation of the log ratio after the slope is removed.
    """

    sigma: float
    standard_error: float
    slope: float
    residual_sigma: float

    @property
    def equivalent_sigma(self) -> float:
        """sigma of the noise that leads to the same selection: residual_sigma / (1 + slope).

        exact^(1 + slope) * exp(noise) has the order of exact * exp(noise / (1 + slope)). `math.inf`
        for a slope of -1 or less, where the order is random or reversed.
        """
        return self.residual_sigma / (1 + self.slope) if self.slope > -1 else math.inf


def fit_noise(losses: Values, approximate_losses: Values) -> NoiseFit:
    """sigma of Assumption 5.12 from exact and approximate losses of the same samples.

    Args:
        losses: (n,) exact losses, above 0, all at the same weights.
        approximate_losses: (n,) approximate losses, above 0, in any unit.

    Raises:
        ValueError: if a loss is not above 0, shapes differ, there are fewer than three samples, or
            all exact losses are equal.
    """
    exact, approximate = _of_samples(losses, approximate_losses, 3)
    least = min(float(exact.min()), float(approximate.min()))
    require(least > 0, "smallest loss", least, "above 0, because its logarithm is taken")
    free = len(exact) - 1
    ratio, level = (approximate / exact).log(), exact.log()
    ratio, level = ratio - ratio.sum() / len(ratio), level - level.sum() / len(level)
    variance, spread = float(ratio.square().sum() / free), float(level.square().sum() / free)
    require(spread > 0, "variance of losses", spread, "above 0: losses are all equal")
    slope = float((ratio * level).sum() / free) / spread
    sigma = math.sqrt(variance)
    error_of_variance = math.sqrt(max(float(ratio.pow(4).mean()) - variance**2, 0.0) / free)
    return NoiseFit(
        sigma=sigma,
        standard_error=error_of_variance / (2 * sigma) if sigma else 0.0,
        slope=slope,
        residual_sigma=math.sqrt(float((ratio - slope * level).square().sum() / (free - 1))),
    )


@dataclass(frozen=True)
class Agreement:
    """p_j as measured.

    Attributes:
        share: share of pairs whose larger loss is the same sample's at the exit and at the end.
        low: lower end of Wilson's 95% interval.
        high: upper end.
        pairs: number of independent pairs.
    """

    share: float
    low: float
    high: float
    pairs: int


def pairwise_agreement(losses: Values, approximate_losses: Values) -> Agreement:
    """p_j (Equation 12) by counting over the pairs of rows (0, 1), (2, 3), ...

    Each row is in one pair only, because Wilson's interval needs independent trials. The rows must
    be in random order. Pairs with equal exact losses are left out. Equal approximate losses count
    as half an agreement, the expectation of a random choice.

    Args:
        losses: (n,) exact losses; the last is not used if n is odd.
        approximate_losses: (n,) approximate losses of the same samples, or another score.

    Raises:
        ValueError: if shapes differ, or no pair has unequal exact losses.
    """
    exact, approximate = _of_samples(losses, approximate_losses, 2)
    used = len(exact) // 2 * 2
    larger = (exact[0:used:2] - exact[1:used:2]).sign()
    larger_early = (approximate[0:used:2] - approximate[1:used:2]).sign()
    unequal = larger != 0
    pairs = int(unequal.sum())
    require(pairs > 0, "pairs with unequal losses", pairs, "at least 1; pass more samples")
    share = float(((1 + larger * larger_early) / 2)[unequal].sum()) / pairs
    z = NormalDist().inv_cdf((1 + 0.95) / 2)
    middle = share + z**2 / (2 * pairs)
    half = z * math.sqrt(share * (1 - share) / pairs + z**2 / (4 * pairs**2))
    scale = 1 + z**2 / pairs
    low, high = max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
    return Agreement(share=share, low=low, high=high, pairs=pairs)
