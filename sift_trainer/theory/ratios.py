"""How much larger are the losses that are chosen? rho_R(w), rho_{R,approx}(w), and Theorem 5.18.

Definitions 5.6 and 5.13 are about one weight vector w and R samples drawn independently. The
functions below estimate them from the losses of n samples at one w, over all sets of R of them:
numerator and denominator are unbiased. rho_R* is an infimum over *all* w that do not minimise F,
so the least ratio along a run is no more than an upper bound on it.
"""

import math

import torch
from torch import Tensor

from sift_trainer.theory.checks import (
    Values,
    groups_of,
    like,
    positive,
    require,
    sample_losses,
    sample_values,
    whole,
)

_NU_FROM = 9  # the least R > 1 with R >= 4 log R


def _chance_to_lead(count: int, num_candidates: int) -> Tensor:
    """(n,) chance that the i-th smallest of n leads a random set of R: C(i-1, R-1) / C(n, R)."""
    ranks = torch.arange(count, 0, -1, dtype=torch.float64)  # n, n-1, ..., 1
    falls = (ranks - num_candidates).clamp(min=0) / (ranks - 1).clamp(min=1)  # rank i to i - 1
    chances = torch.ones(count, dtype=torch.float64)
    chances[1:] = falls[:-1].cumprod(dim=0)
    return (chances * num_candidates / count).flip(0)


def expected_selected_loss(losses: Values, scores: Values, num_candidates: int = 2) -> float:
    """F_{R,approx}(w) of Definition 5.13: the expected exact loss of the candidate that is chosen.

    Args:
        losses: (n,) exact losses f(w, x) of samples drawn independently, none negative.
        scores: (n,) what the choice is made by: approximate losses, or any other score. Among equal
            scores one is chosen at random.
        num_candidates: R, of which the one with the largest score is chosen.

    Returns:
        The mean over all sets of R of the n samples, in units of the loss.

    Raises:
        ValueError: if R is below 1, there are fewer than R samples, or the shapes differ.
    """
    whole("num_candidates", num_candidates, 1)
    exact = sample_losses("losses", losses, num_candidates)
    by = sample_values("scores", scores, num_candidates)
    like("scores", by, "losses", exact)
    group, sizes = groups_of(by)  # in ascending order, ties together
    chances = _chance_to_lead(len(by), num_candidates)
    shared = torch.zeros(len(sizes), dtype=torch.float64)
    shared.index_add_(0, group.sort().values, chances)
    return float(((shared / sizes)[group] * exact).sum())


def expected_max_loss(losses: Values, num_candidates: int = 2) -> float:
    """F_R(w) of Definition 5.6: expected largest of R losses; as `expected_selected_loss`."""
    return expected_selected_loss(losses, losses, num_candidates)


def loss_ratio(losses: Values, num_candidates: int = 2) -> float:
    """rho_R(w) of Definition 5.6: the expected largest of R losses over the mean loss, in [1, R].

    Errors as `approximate_loss_ratio`.
    """
    return approximate_loss_ratio(losses, losses, num_candidates)


def approximate_loss_ratio(losses: Values, scores: Values, num_candidates: int = 2) -> float:
    """rho_{R,approx}(w) of Definition 5.13: the expected loss of the chosen over the mean loss.

    At most ``loss_ratio(losses, num_candidates)``; 1 for scores that tell nothing, less for such as
    mislead. Arguments as in `expected_selected_loss`.

    Raises:
        ValueError: as `expected_selected_loss`, and if all losses are 0.
    """
    chosen = expected_selected_loss(losses, scores, num_candidates)
    mean = float(sample_losses("losses", losses, num_candidates).mean())
    require(mean > 0, "mean of losses", mean, "above 0: at losses of 0 there is nothing to choose")
    return chosen / mean


def nu(num_candidates: int) -> float:
    """nu(R) = sqrt(pi/2 log(R / (4 log R))) of Theorem 5.18.

    With probability 1 - 1/R or more the largest of R standard normal numbers exceeds it.

    Raises:
        ValueError: for R below 9, where the logarithm is negative.
    """
    whole("num_candidates", num_candidates, 1)
    if num_candidates < _NU_FROM:
        raise ValueError(
            f"num_candidates={num_candidates} must be at least {_NU_FROM} in Theorem 5.18: below, "
            "R < 4 log R and the logarithm in nu(R) is negative"
        )
    return math.sqrt(math.pi / 2 * math.log(num_candidates / (4 * math.log(num_candidates))))


def gaussian_loss_ratio_bound(num_candidates: int, mean_error: float, error_std: float) -> float:
    """Theorem 5.18: a lower bound on rho_R(w) for squared errors of Gaussian prediction errors.

    (eps^2 + nu^2 delta^2 + 2 nu eps delta) (1 - 1/R) / (eps^2 + delta^2). The proof squares ``max
    Z_i >= eps + nu delta``, which needs a right side that is not negative; the losses of errors
    with mean -eps are distributed as those with mean eps, hence |eps| is taken. It can be below 1,
    where the trivial rho >= 1 is the better bound: for eps = 0 up to R = 24.

    Args:
        num_candidates: R.
        mean_error: eps(w), mean of prediction - target over samples.
        error_std: delta(w), its standard deviation, above 0.

    Raises:
        ValueError: for R below 9 (see `nu`), a standard deviation that is not above 0, or a mean
            that is not finite.
    """
    positive("error_std", error_std, 1.0)
    require(math.isfinite(mean_error), "mean_error", mean_error, "finite, such as 0")
    bias, growth = abs(mean_error), nu(num_candidates)
    largest = (bias + growth * error_std) ** 2 * (1 - 1 / num_candidates)
    return largest / (bias**2 + error_std**2)
