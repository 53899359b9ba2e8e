"""Convergence bounds of greedy SGD and SGD on smooth convex losses (Section 5), and their crossing.

The arguments, in the paper's symbols:

- ``steps``, K: updates. The bounds are on E[F(mean of w_0 .. w_{K-1})], one sample per update.
- ``learning_rate``, eta: constant, in (0, 1/L).
- ``smoothness``, L: every sample's gradient is L-Lipschitz. Unit: loss / parameter^2.
- ``initial_distance``, D_0: from w_0 to the nearest minimiser of F. Unit: parameter.
- ``minimum_loss``, F*: min_w F(w). Zero if one w fits all samples.
- ``loss_ratio``, rho_R*: the infimum, over w that do not minimise F, of the expected largest of R
  losses over the mean loss (Definition 5.6), in [1, R]. The paper says above 1, but the infimum is
  1 if all losses are equal at some w, or in the limit of distant w.
- ``max_loss_at_minimum``, Delta_R: the expected largest of R losses where F is minimal, or a larger
  number (Definition 5.6). Unit: loss.

The proofs use Assumption 5.4 (the loss of each sample *alone* can reach 0) only for ||grad f||^2 <=
2 L f (Equation 20). That is true for every L-smooth f >= 0, so the bounds hold for such losses too.
"""

import math

from sift_trainer.measuring.theory.checks import require


def greedy_sgd_bound(
    steps: float,
    *,
    initial_distance: float,
    learning_rate: float,
    smoothness: float,
    loss_ratio: float,
    max_loss_at_minimum: float,
) -> float:
    """Theorem 5.7: greedy SGD, if approximate and exact losses have the same argmax.

    D_0^2 / (2 rho_R* eta (1 - eta L) K) + Delta_R / (rho_R* (1 - eta L)), in units of the loss.
    ``steps`` may be `math.inf`.

    Raises:
        ValueError: if an argument is outside the range given at the top of this file.
    """
    _check_loss_ratio(loss_ratio)
    return approximate_greedy_sgd_bound(
        steps,
        initial_distance=initial_distance,
        learning_rate=learning_rate,
        smoothness=smoothness,
        approximate_loss_ratio=loss_ratio,
        max_loss_at_minimum=max_loss_at_minimum,
    )


def approximate_greedy_sgd_bound(
    steps: float,
    *,
    initial_distance: float,
    learning_rate: float,
    smoothness: float,
    approximate_loss_ratio: float,
    max_loss_at_minimum: float,
) -> float:
    """Theorem 5.14: greedy SGD by approximate losses with the noise of Assumption 5.12.

    It is Theorem 5.7 with rho_{R,approx}* (Definition 5.13) for rho_R*. A lower bound on that
    ratio, such as ``p_sigma(sigma) * loss_ratio`` (Theorem 5.15), may be passed; it may be below 1.

    Delta_R is that of exact losses. The paper replaces F_R by F_{R,approx} in the proof of Theorem
    5.7, but F_{R,approx} need not be convex. Convexity of each sample's loss gives <E grad f(w,
    x^), w - w*> >= F_{R,approx}(w) - E f(w*, x^), x^ selected at w, and the last term is at most
    the expected largest of R exact losses at w*.

    Raises:
        ValueError: if an argument is outside the range given at the top of this file.
    """
    require(approximate_loss_ratio > 0, "approximate_loss_ratio", approximate_loss_ratio, "above 0")
    require(steps >= 1, "steps", steps, "at least 1, such as 1000")
    require(initial_distance >= 0, "initial_distance", initial_distance, "at least 0, such as 1")
    require(max_loss_at_minimum >= 0, "max_loss_at_minimum", max_loss_at_minimum, "at least 0")
    shrunk = approximate_loss_ratio * _one_minus_step(learning_rate, smoothness)
    transient = initial_distance**2 / (2 * shrunk * learning_rate * steps)
    return transient + max_loss_at_minimum / shrunk


def sgd_bound(
    steps: float,
    *,
    initial_distance: float,
    learning_rate: float,
    smoothness: float,
    minimum_loss: float,
) -> float:
    """Theorem 5.8: SGD, which selects at random. It is Theorem 5.7 with rho = 1 and Delta = F*.

    D_0^2 / (2 eta (1 - eta L) K) + eta L F* / (1 - eta L) + F*, in units of the loss. The step size
    that the paper sets after it must read 1 / (L sqrt(K)).

    Raises:
        ValueError: if an argument is outside the range given at the top of this file.
    """
    return greedy_sgd_bound(
        steps,
        initial_distance=initial_distance,
        learning_rate=learning_rate,
        smoothness=smoothness,
        loss_ratio=1.0,
        max_loss_at_minimum=minimum_loss,
    )


def greedy_sgd_floor(loss_ratio: float, max_loss_at_minimum: float) -> float:
    """Remark 5.9: Delta_R / rho_R*, the limit of Theorem 5.7 for many small steps.

    Raises:
        ValueError: if ``loss_ratio`` is below 1.
    """
    _check_loss_ratio(loss_ratio)
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
        ValueError: if ``loss_ratio`` is below 1, or Delta_R is below rho_R* F* (see Equation 5).
    """
    _check_loss_ratio(loss_ratio)
    least = loss_ratio * minimum_loss
    if math.isclose(max_loss_at_minimum, least, rel_tol=1e-9):
        return math.inf
    wanted = f"at least loss_ratio * minimum_loss = {least:g} (Equation 5)"
    require(max_loss_at_minimum > least, "max_loss_at_minimum", max_loss_at_minimum, wanted)
    excess = max_loss_at_minimum - least
    return initial_distance**2 * (loss_ratio - 1) / (2 * learning_rate * excess)


def crossing_loss(
    *,
    learning_rate: float,
    smoothness: float,
    loss_ratio: float,
    max_loss_at_minimum: float,
    minimum_loss: float,
) -> float:
    """Corollary 5.10: the loss (Delta_R - F*) / ((1 - eta L) (rho_R* - 1)) where the bounds cross.

    At larger losses greedy SGD has the smaller bound.

    Raises:
        ValueError: if ``loss_ratio`` is not above 1, where the bounds do not cross.
    """
    require(loss_ratio > 1, "loss_ratio", loss_ratio, "above 1, such as 1.5: bounds do not cross")
    gap = max_loss_at_minimum - minimum_loss
    return gap / (_one_minus_step(learning_rate, smoothness) * (loss_ratio - 1))


def _one_minus_step(learning_rate: float, smoothness: float) -> float:
    """1 - eta L."""
    require(smoothness > 0, "smoothness", smoothness, "above 0, such as 1")
    wanted = f"in (0, 1 / smoothness) = (0, {1 / smoothness:g}), such as {0.1 / smoothness:g}"
    require(0 < learning_rate * smoothness < 1, "learning_rate", learning_rate, wanted)
    return 1 - learning_rate * smoothness


def _check_loss_ratio(loss_ratio: float) -> None:
    wanted = "at least 1, because the largest of R losses is at least their mean; such as 1.5"
    require(loss_ratio >= 1, "loss_ratio", loss_ratio, wanted)
