"""Convergence of greedy SGD and of SGD on smooth convex losses (section 5): bounds, crossing point.

Shared by the functions, in the paper's symbols:

- ``steps``, K: updates; the bounds are on E[F(mean of w_0 .. w_{K-1})], one sample per update.
- ``learning_rate``, eta: constant, below 1/L.
- ``smoothness``, L: every sample's gradient is L-Lipschitz. Unit: loss / parameter^2.
- ``initial_distance``, D_0: from w_0 to the nearest minimiser of F. Unit: parameter.
- ``minimum_loss``, F*: the least mean loss, min_w F(w). Zero where one w fits all samples.
- ``loss_ratio``, rho_R*: the infimum over w that do not minimise F of the expected largest of R
  losses over the mean loss (Definition 5.6), in [1, R]. The paper says strictly above 1; the
  infimum is 1 where the losses of all samples agree at some w, or in the limit of far away ones.
- ``max_loss_at_minimum``, Delta_R: the expected largest of R losses where F is least, or a number
  above it (Definition 5.6). Unit: loss.

Assumption 5.4, that the loss of each sample *alone* can be brought to 0, enters the proofs
(Equation 20) by ||grad f||^2 <= 2 L f only. That holds for every L-smooth f that is nowhere
negative, so the bounds do too, with the F* and Delta_R that such losses have.
"""

import math

from sift_trainer.theory.checks import not_negative, positive, require


def _contraction(learning_rate: float, smoothness: float) -> float:
    """1 - eta L, which both bounds divide by."""
    positive("smoothness", smoothness, 1.0)
    require(
        0 < learning_rate < 1 / smoothness,
        "learning_rate",
        learning_rate,
        f"above 0 and below 1 / smoothness = {1 / smoothness:g}, such as {0.1 / smoothness:g}",
    )
    return 1 - learning_rate * smoothness


def _at_least_one(loss_ratio: float) -> None:
    require(
        1 <= loss_ratio < math.inf,
        "loss_ratio",
        loss_ratio,
        "at least 1, as the largest of R losses is no smaller than their mean; such as 1.5",
    )


def _greedy_bound(
    steps: float, distance: float, learning_rate: float, smoothness: float, ratio: float, top: float
) -> float:
    contraction = _contraction(learning_rate, smoothness)
    require(steps >= 1, "steps", steps, "at least 1, such as 1000")
    not_negative("initial_distance", distance, 1.0)
    not_negative("max_loss_at_minimum", top, 0.1)
    transient = distance**2 / (2 * ratio * learning_rate * contraction * steps)
    return transient + top / (ratio * contraction)


def greedy_sgd_bound(
    steps: float,
    *,
    initial_distance: float,
    learning_rate: float,
    smoothness: float,
    loss_ratio: float,
    max_loss_at_minimum: float,
) -> float:
    """Theorem 5.7: greedy SGD, if the approximate losses have the argmax of the exact ones.

    D_0^2 / (2 rho_R* eta (1 - eta L) K) + Delta_R / (rho_R* (1 - eta L)), in units of the loss.
    ``steps`` may be `math.inf`: what is left is the floor of Remark 5.9.

    Raises:
        ValueError: outside the domain given at the top of this file.
    """
    _at_least_one(loss_ratio)
    return _greedy_bound(
        steps, initial_distance, learning_rate, smoothness, loss_ratio, max_loss_at_minimum
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
    """Theorem 5.14: greedy SGD by approximate losses, the noise of Assumption 5.12.

    Theorem 5.7 with rho_{R,approx}* (Definition 5.13) for rho_R*. A lower bound on that ratio
    gives a bound too, such as ``p_sigma(sigma) * loss_ratio`` (Theorem 5.15), so it may be below
    1.

    Delta_R stays what it is for exact losses. The paper has the theorem "by replacing" F_R with
    F_{R,approx} in the proof of 5.7, but F_{R,approx} need not be convex, nor is its gradient the
    mean update. What does hold, by convexity of each sample's loss, is <E grad f(w, x^), w - w*>
    >= F_{R,approx}(w) - E f(w*, x^), where x^ was chosen at w; and of that last term no more is
    known than that it is at most the expected largest of R exact losses at w*.

    Raises:
        ValueError: outside the domain given at the top of this file.
    """
    positive("approximate_loss_ratio", approximate_loss_ratio, 1.2)
    return _greedy_bound(
        steps,
        initial_distance,
        learning_rate,
        smoothness,
        approximate_loss_ratio,
        max_loss_at_minimum,
    )


def sgd_bound(
    steps: float,
    *,
    initial_distance: float,
    learning_rate: float,
    smoothness: float,
    minimum_loss: float,
) -> float:
    """Theorem 5.8: SGD, which picks at random.

    D_0^2 / (2 eta (1 - eta L) K) + eta L F* / (1 - eta L) + F*, in units of the loss. It is
    Theorem 5.7 at rho = 1 and Delta = F*. After it the paper sets eta = 1 / (eta L sqrt(K)), which
    must read 1 / (L sqrt(K)).

    Raises:
        ValueError: outside the domain given at the top of this file.
    """
    not_negative("minimum_loss", minimum_loss, 0.1)
    return _greedy_bound(steps, initial_distance, learning_rate, smoothness, 1.0, top=minimum_loss)


def greedy_sgd_floor(loss_ratio: float, max_loss_at_minimum: float) -> float:
    """Remark 5.9: Delta_R / rho_R*, the limit of Theorem 5.7 for many and small steps.

    Raises:
        ValueError: if ``loss_ratio`` is below 1 or ``max_loss_at_minimum`` below 0.
    """
    _at_least_one(loss_ratio)
    not_negative("max_loss_at_minimum", max_loss_at_minimum, 0.1)
    return max_loss_at_minimum / loss_ratio


def _excess(loss_ratio: float, max_loss_at_minimum: float, minimum_loss: float) -> float:
    """Delta_R - rho_R* F*, which Equation 5 says is not negative; 0 within rounding."""
    not_negative("minimum_loss", minimum_loss, 0.1)
    least = greedy_sgd_floor(loss_ratio, max_loss_at_minimum) - minimum_loss
    if least < 0 and not math.isclose(max_loss_at_minimum, loss_ratio * minimum_loss, rel_tol=1e-9):
        possible = loss_ratio * minimum_loss
        raise ValueError(
            f"max_loss_at_minimum={max_loss_at_minimum:g} must be at least loss_ratio * "
            f"minimum_loss = {possible:g} (Equation 5), such as {2 * possible:g}"
        )
    return max(0.0, loss_ratio * least)


def crossing_step(
    *,
    initial_distance: float,
    learning_rate: float,
    loss_ratio: float,
    max_loss_at_minimum: float,
    minimum_loss: float,
) -> float:
    """Corollary 5.10: the number of updates up to which the bound of greedy SGD is the better one.

    K = D_0^2 (rho_R* - 1) / (2 eta (Delta_R - rho_R* F*)), not rounded. `math.inf` where Delta_R is
    rho_R* F*: then the bound of greedy SGD is never the worse one.

    Raises:
        ValueError: if a value is negative, ``loss_ratio`` below 1, or Delta_R below rho_R* F*,
            which Equation 5 excludes.
    """
    not_negative("initial_distance", initial_distance, 1.0)
    positive("learning_rate", learning_rate, 0.1)
    excess = _excess(loss_ratio, max_loss_at_minimum, minimum_loss)
    if excess <= 1e-9 * max_loss_at_minimum:
        return math.inf
    return initial_distance**2 * (loss_ratio - 1) / (2 * learning_rate * excess)


def crossing_loss(
    *,
    learning_rate: float,
    smoothness: float,
    loss_ratio: float,
    max_loss_at_minimum: float,
    minimum_loss: float,
) -> float:
    """Corollary 5.10: the loss that both bounds have at `crossing_step`.

    (Delta_R - F*) / ((1 - eta L) (rho_R* - 1)), in units of the loss; of greater losses greedy SGD
    has the smaller bound.

    Raises:
        ValueError: outside the domain given at the top of this file, or if ``loss_ratio`` is 1,
            where the bounds do not cross.
    """
    contraction = _contraction(learning_rate, smoothness)
    _excess(loss_ratio, max_loss_at_minimum, minimum_loss)
    require(
        loss_ratio > 1, "loss_ratio", loss_ratio, "above 1 for the bounds to cross, such as 1.5"
    )
    return (max_loss_at_minimum - minimum_loss) / (contraction * (loss_ratio - 1))
