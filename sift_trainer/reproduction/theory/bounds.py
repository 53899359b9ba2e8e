"""Bounds of greedy SGD and SGD on smooth convex losses (Section 5), and what they depend on.

The arguments, in the paper's symbols:

- ``steps``, K: updates. The bounds are on E[F(mean of w_0 .. w_{K-1})], one sample per update.
- ``learning_rate``, eta: constant, in (0, 1/L).
- ``smoothness``, L: every sample's gradient is L-Lipschitz. Unit: loss / parameter^2.
- ``initial_distance``, D_0: from w_0 to the nearest minimiser of F. Unit: parameter.
- ``minimum_loss``, F*: min_w F(w). Zero if one w fits all samples.
- ``loss_ratio``, rho_R*: the infimum, over w that do not minimise F, of the expected largest of R
  losses over the mean loss (Definition 5.6), in [1, R].
- ``max_loss_at_minimum``, Delta_R: the expected largest of R losses where F is minimal, or a larger
  number (Definition 5.6). Unit: loss.
"""

import math
from collections.abc import Sequence

from torch import Tensor

from sift_trainer.measuring.theory import require

SIGMA_LIMIT = 1 / (2 * math.sqrt(2))
"""The largest sigma of Theorem 5.15, about 0.354."""


def greedy_sgd_bound(
    steps: float,
    *,
    initial_distance: float,
    learning_rate: float,
    smoothness: float,
    loss_ratio: float,
    max_loss_at_minimum: float,
) -> float:
    """Theorem 5.7: D_0^2 / (2 rho_R* eta (1 - eta L) K) + Delta_R / (rho_R* (1 - eta L)).

    Theorem 5.8 (SGD) with ``loss_ratio`` 1 and ``max_loss_at_minimum`` F*; Theorem 5.14
    (approximate losses) with rho_{R,approx}* or a lower bound on it for ``loss_ratio``.

    Returns:
        The bound in units of the loss. ``steps`` may be `math.inf`.

    Raises:
        ValueError: if ``loss_ratio`` is not above 0, or ``learning_rate`` is not in (0, 1 / L).
    """
    require(loss_ratio > 0, "loss_ratio", loss_ratio, "above 0")
    wanted = f"in (0, 1 / smoothness) = (0, {1 / smoothness:g})"
    require(0 < learning_rate * smoothness < 1, "learning_rate", learning_rate, wanted)
    shrunk = loss_ratio * (1 - learning_rate * smoothness)
    transient = initial_distance**2 / (2 * shrunk * learning_rate * steps)
    return transient + max_loss_at_minimum / shrunk


def greedy_sgd_floor(loss_ratio: float, max_loss_at_minimum: float) -> float:
    """Remark 5.9: Delta_R / rho_R*, the limit of Theorem 5.7 for many small steps."""
    return max_loss_at_minimum / loss_ratio


def crossing_step(
    *,
    initial_distance: float,
    learning_rate: float,
    loss_ratio: float,
    max_loss_at_minimum: float,
    minimum_loss: float,
) -> float:
    """Corollary 5.10: the number of updates up to which greedy SGD has the smaller bound.

    K = D_0^2 (rho_R* - 1) / (2 eta (Delta_R - rho_R* F*)), for Delta_R above rho_R* F*. If both
    are equal (Equation 5 excludes less), the bounds never cross.
    """
    excess = max_loss_at_minimum - loss_ratio * minimum_loss
    return initial_distance**2 * (loss_ratio - 1) / (2 * learning_rate * excess)


def p_sigma(sigma: float) -> float:
    """p(sigma) = 1 - 0.72 (1 - exp(-sqrt(2) sigma)) of Theorem 5.15.

    F_{2,approx}(w) >= p(sigma) F_2(w).

    Raises:
        ValueError: if ``sigma`` is not in [0, `SIGMA_LIMIT`], the range of the theorem.
    """
    wanted = f"in [0, {SIGMA_LIMIT:.4f}] in Theorem 5.15, such as 0.3; or use p_sigma_symmetric"
    require(0 <= sigma <= SIGMA_LIMIT, "sigma", sigma, wanted)
    return 1 - 0.72 * (1 - math.exp(-math.sqrt(2) * sigma))


def p_sigma_symmetric(sigma: float) -> float:
    """(1 + exp(-sqrt(2) sigma)) / 2: a sharper p(sigma), for any sigma. Not in the paper.

    Chebyshev's inequality, halved for the symmetric zeta_2 - zeta_1, instead of Cantelli's: what
    Equation 34 subtracts is at most (1 - e^-t) min(1/2, sigma^2 / t^2), t = log(f1 / f2).
    """
    return (1 + math.exp(-math.sqrt(2) * sigma)) / 2


def argmax_agreement(beta: float) -> float:
    """p_j of Theorem 6.2 (Equation 13) for beta_j in [-1, 1], in closed form."""
    return 0.5 + math.asin(beta) / math.pi


def argmax_agreement_bound(beta: float) -> float:
    """Equation 14: p_j >= 1 - sqrt((2 - 2 beta^2) / (2 - beta^2)), for beta_j in [0, 1] only."""
    return 1 - math.sqrt((2 - 2 * beta**2) / (2 - beta**2))


def beta_from_weights(weights: Sequence[Tensor], head: Tensor, exit_layer: int) -> float:
    """beta_j of Theorem 6.2 for a linear network: the cosine of A_j^T theta and A_j^T B_j^T theta.

    Args:
        weights: W_1 .. W_k, each (d, d), in the order of the forward pass.
        head: theta, (d,).
        exit_layer: j in 1..k; beta_k is 1.
    """
    both = []
    for depth in (exit_layer, len(weights)):
        direction = head.detach().double()
        for weight in reversed(weights[:depth]):
            direction = weight.detach().double().T @ direction
        both.append(direction / float(direction.norm()))
    return max(-1.0, min(1.0, float(both[0] @ both[1])))
