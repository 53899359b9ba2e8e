"""How much larger is the selected loss than the mean loss? rho_R of Definitions 5.6 and 5.13.

Definitions 5.6 and 5.13 are about one weight vector w and R independent samples. The functions
estimate them from the losses of n samples at one w, over all sets of R samples; numerator and
denominator are unbiased. rho_R* is an infimum over *all* w that do not minimise F, so the smallest
ratio of a run is only an upper bound on it.
"""

import torch
from torch import Tensor

from sift_trainer.measuring.theory.checks import (
    Values,
    groups_of_equal,
    require,
    same_shape,
    sample_losses,
    sample_values,
)


def _chance_to_lead(count: int, num_candidates: int) -> Tensor:
    """(n,) chance that the i-th smallest of n leads a random set of R: C(i-1, R-1) / C(n, R)."""
    ranks = torch.arange(count, 0, -1, dtype=torch.float64)  # n, n-1, ..., 1
    falls = (ranks - num_candidates).clamp(min=0) / (ranks - 1).clamp(min=1)  # rank i to i - 1
    chances = torch.ones(count, dtype=torch.float64)
    chances[1:] = falls[:-1].cumprod(dim=0)
    return (chances * num_candidates / count).flip(0)


def expected_selected_loss(losses: Values, scores: Values, num_candidates: int = 2) -> float:
    """F_{R,approx}(w) of Definition 5.13: the expected exact loss of the selected candidate.

    Args:
        losses: (n,) exact losses f(w, x) of independent samples, at least 0.
        scores: (n,) approximate losses or other scores. Ties are broken at random.
        num_candidates: R; the candidate with the largest score is selected.

    Returns:
        The mean over all sets of R of the n samples, in units of the loss.

    Raises:
        ValueError: if R is below 1, there are fewer than R samples, or the shapes differ.
    """
    require(num_candidates >= 1, "num_candidates", num_candidates, "at least 1, such as 2")
    exact = sample_losses("losses", losses, num_candidates)
    by = sample_values("scores", scores, num_candidates)
    same_shape("scores", by, "losses", exact)
    group, sizes = groups_of_equal(by)
    chances = torch.zeros(len(sizes), dtype=torch.float64)
    chances.index_add_(0, group.sort().values, _chance_to_lead(len(by), num_candidates))
    return float(((chances / sizes)[group] * exact).sum())


def expected_max_loss(losses: Values, num_candidates: int = 2) -> float:
    """F_R(w) of Definition 5.6: the expected largest of R losses. See `expected_selected_loss`."""
    return expected_selected_loss(losses, losses, num_candidates)


def loss_ratio(losses: Values, num_candidates: int = 2) -> float:
    """rho_R(w) of Definition 5.6: expected largest of R losses over the mean loss, in [1, R].

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
    mean = float(sample_losses("losses", losses, num_candidates).mean())
    require(mean > 0, "mean of losses", mean, "above 0: the ratio is undefined otherwise")
    return selected / mean
