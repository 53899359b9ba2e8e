"""What the bounds depend on: the noise sigma (Theorem 5.15) and beta_j (Theorem 6.2)."""

import math
from collections.abc import Sequence

from torch import Tensor

from sift_trainer.measuring.theory import require

SIGMA_LIMIT = 1 / (2 * math.sqrt(2))
"""The largest sigma of Theorem 5.15, about 0.354."""


def p_sigma(sigma: float) -> float:
    """p(sigma) = 1 - 0.72 (1 - exp(-sqrt(2) sigma)) of Theorem 5.15.

    F_{2,approx}(w) >= p(sigma) F_2(w), and the same for rho_2(w) and rho_2*.

    Raises:
        ValueError: if ``sigma`` is not in [0, `SIGMA_LIMIT`], the range of the theorem.
    """
    wanted = f"in [0, {SIGMA_LIMIT:.4f}] in Theorem 5.15, such as 0.3; or use p_sigma_symmetric"
    require(0 <= sigma <= SIGMA_LIMIT, "sigma", sigma, wanted)
    return 1 - 0.72 * (1 - math.exp(-math.sqrt(2) * sigma))


def p_sigma_symmetric(sigma: float) -> float:
    """(1 + exp(-sqrt(2) sigma)) / 2: a sharper p(sigma), for any sigma. Not in the paper.

    The proof of Theorem 5.15 bounds P(Z > s), Z = zeta_2 - zeta_1, by Cantelli's inequality. But Z
    is symmetric with variance 2, so Chebyshev's inequality gives P(Z > s) = P(|Z| > s) / 2 <=
    min(1/2, 1 / s^2). What Equation 34 subtracts is then at most (1 - e^-t) min(1/2, sigma^2 /
    t^2), t = log(f1 / f2). Its maximum, at t = sqrt(2) sigma, is (1 - exp(-sqrt(2) sigma)) / 2.
    """
    return (1 + math.exp(-math.sqrt(2) * sigma)) / 2


def argmax_agreement(beta: float) -> float:
    """p_j of Theorem 6.2 (Equation 13) for beta_j in [-1, 1]: 1/2 + arcsin(beta) / pi.

    The integral of Equation 13 is twice the orthant probability of two normal numbers with
    correlation beta (Equation 64), 1/4 + arcsin(beta) / (2 pi) by Sheppard's formula.
    """
    return 0.5 + math.asin(beta) / math.pi


def argmax_agreement_bound(beta: float) -> float:
    """Equation 14: p_j >= 1 - sqrt((2 - 2 beta^2) / (2 - beta^2)), for beta_j in [0, 1].

    It is below 1/2 for beta below 0.926, because Fact A.4, erfc(t) <= 2 exp(-t^2 / 2), is not
    sharp. With erfc(t) <= exp(-t^2) the same steps give 1 - sqrt(1 - beta^2) / 2.

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
    """
    both = []
    for depth in (exit_layer, len(weights)):
        direction = head.detach().double()
        for weight in reversed(weights[:depth]):
            direction = weight.detach().double().T @ direction
        both.append(direction / float(direction.norm()))
    return max(-1.0, min(1.0, float(both[0] @ both[1])))
