"""Convergence bounds of greedy SGD and SGD on smooth convex losses (Section 5).

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

The proofs use Assumption 5.4 (the loss of each sample *alone* can reach 0) only for ||grad f||^2 <=
2 L f (Equation 20). That is true for every L-smooth f >= 0, so the bounds hold for such losses too.
"""

import math

from sift_trainer.measuring.theory import require


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

    With ``loss_ratio`` 1 and ``max_loss_at_minimum`` F* it is Theorem 5.8, the bound of SGD. With
    rho_{R,approx}* (Definition 5.13) or a lower bound on it for ``loss_ratio`` it is Theorem 5.14,
    for approximate losses. Delta_R is that of exact losses there too: by convexity <E grad f(w,
    x^), w - w*> >= F_{R,approx}(w) - E f(w*, x^), x^ selected at w, and the last term is at most
    the expected largest of R exact losses at w*.

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

    K = D_0^2 (rho_R* - 1) / (2 eta (Delta_R - rho_R* F*)), not rounded. `math.inf` if Delta_R is
    rho_R* F*, because the bound of greedy SGD is then never the larger one.

    Raises:
        ValueError: if Delta_R is below rho_R* F* (see Equation 5).
    """
    least = loss_ratio * minimum_loss
    if math.isclose(max_loss_at_minimum, least, rel_tol=1e-9):
        return math.inf
    wanted = f"at least loss_ratio * minimum_loss = {least:g} (Equation 5)"
    require(max_loss_at_minimum > least, "max_loss_at_minimum", max_loss_at_minimum, wanted)
    excess = max_loss_at_minimum - least
    return initial_distance**2 * (loss_ratio - 1) / (2 * learning_rate * excess)
