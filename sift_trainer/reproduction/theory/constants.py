"""What the bounds depend on: the noise sigma (5.15), beta_j (6.2) and the number R (5.18)."""

import math
from collections.abc import Sequence

from torch import Tensor

from sift_trainer.measuring.theory.checks import require
from sift_trainer.measuring.theory.noise import check_ratio_of_two

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


def sigma_max_symmetric(loss_ratio: float) -> float:
    """log(rho / (2 - rho)) / sqrt(2): Corollary 5.16 with `p_sigma_symmetric`; infinite at rho = 2.

    Above either sigma_max only the proof of a gain is lost: with Assumption 5.12 and any sigma, the
    larger of two losses is selected at least half of the time, so rho_{2,approx} is at least 1.

    Raises:
        ValueError: if ``loss_ratio`` is outside [1, 2].
    """
    check_ratio_of_two(loss_ratio)
    if loss_ratio == 2:
        return math.inf
    return math.log(loss_ratio / (2 - loss_ratio)) / math.sqrt(2)


def argmax_agreement_bound(beta: float) -> float:
    """Equation 14: p_j >= 1 - sqrt((2 - 2 beta^2) / (2 - beta^2)), for beta_j in [0, 1].

    The bound is below 1/2 for beta below 0.926, because Fact A.4, erfc(t) <= 2 exp(-t^2 / 2), is
    not sharp. With erfc(t) <= exp(-t^2) the same steps give 1 - sqrt(1 - beta^2) / 2.

    Raises:
        ValueError: if ``beta`` is outside [0, 1]; Fact A.4 fails for negative arguments.
    """
    require(0 <= beta <= 1, "beta", beta, "in [0, 1] in Equation 14, such as 0.9")
    return 1 - math.sqrt((2 - 2 * beta**2) / (2 - beta**2))


def beta_from_weights(weights: Sequence[Tensor], head: Tensor, exit_layer: int) -> float:
    """beta_j of Theorem 6.2 for a linear network: the cosine of A_j^T theta and A_j^T B_j^T theta.

    Args:
        weights: W_1 .. W_k, each (d, d), in the order of the forward pass.
        head: theta, (d,).
        exit_layer: j in 1..k; beta_k is 1.

    Raises:
        ValueError: if the layer does not exist, or one of the two vectors is 0.
    """
    last = len(weights)
    require(1 <= exit_layer <= last, "exit_layer", exit_layer, f"in 1..{last}")
    both = []
    for depth in (exit_layer, last):
        direction = head.detach().double()
        for weight in reversed(weights[:depth]):
            direction = weight.detach().double().T @ direction
        norm = float(direction.norm())
        require(norm > 0, "norm of the head's input direction", norm, "above 0")
        both.append(direction / norm)
    return max(-1.0, min(1.0, float(both[0] @ both[1])))


def beta_from_agreement(agreement: float) -> float:
    """The beta_j at which Theorem 6.2 gives a measured p_j: sin(pi (p_j - 1/2)).

    It assumes that the ranks of the losses are those of two jointly Gaussian numbers.

    Raises:
        ValueError: if ``agreement`` is outside [0, 1].
    """
    require(0 <= agreement <= 1, "agreement", agreement, "in [0, 1], such as 0.8")
    return math.sin(math.pi * (agreement - 0.5))


def nu(num_candidates: int) -> float:
    """nu(R) = sqrt(pi/2 log(R / (4 log R))) of Theorem 5.18.

    The largest of R standard normal numbers exceeds it with probability at least 1 - 1/R.

    Raises:
        ValueError: for R below 9, where R < 4 log R and the logarithm is negative.
    """
    require(num_candidates >= 9, "num_candidates", num_candidates, "at least 9 in Theorem 5.18")
    return math.sqrt(math.pi / 2 * math.log(num_candidates / (4 * math.log(num_candidates))))


def gaussian_loss_ratio_bound(num_candidates: int, mean_error: float, error_std: float) -> float:
    """Theorem 5.18: a lower bound on rho_R(w) for squared errors of Gaussian prediction errors.

    (eps^2 + nu^2 delta^2 + 2 nu eps delta) (1 - 1/R) / (eps^2 + delta^2), with |eps| for eps: the
    losses of errors with mean -eps and eps have the same distribution, and the proof squares
    ``max Z_i >= eps + nu delta``, which needs a right side that is not negative. For eps = 0 the
    bound is below the trivial bound of 1 up to R = 24.

    Args:
        num_candidates: R.
        mean_error: eps(w), mean of prediction - target over samples.
        error_std: delta(w), its standard deviation, above 0.

    Raises:
        ValueError: for R below 9, or a standard deviation that is not above 0.
    """
    require(error_std > 0, "error_std", error_std, "above 0, such as 1")
    bias = abs(mean_error)
    largest = (bias + nu(num_candidates) * error_std) ** 2 * (1 - 1 / num_candidates)
    return largest / (bias**2 + error_std**2)
