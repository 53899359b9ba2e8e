"""How often does an early exit choose what the full model would? p_j and beta_j (section 6.1).

p_j is the chance that of two samples the same one has the larger loss at the exit after layer j
and at the end. Theorem 6.2 has it for linear networks with binary labels, where label * input is
Gaussian (Assumption 6.1). Section 3 prints the sigmoid as 1 / (1 + e^z), which falls; Equation 62
is written for that one. With the usual 1 / (1 + e^-z) both of its inequalities turn round, and p_j
stays.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from sift_trainer.theory.checks import Values, like, require, sample_losses, sample_values, whole


def argmax_agreement(beta: float) -> float:
    """p_j of Theorem 6.2 (Equation 13): the chance of the same argmax, for any beta_j in [-1, 1].

    1/2 + arcsin(beta) / pi. The integral of Equation 13 is twice the orthant probability of two
    normal numbers with correlation beta (Equation 64), which is 1/4 + arcsin(beta) / (2 pi) by
    Sheppard's formula.

    Raises:
        ValueError: if ``beta`` is outside [-1, 1].
    """
    require(-1 <= beta <= 1, "beta", beta, "in [-1, 1], as it is a cosine; such as 0.9")
    return 0.5 + math.asin(beta) / math.pi


def argmax_agreement_bound(beta: float) -> float:
    """Equation 14: p_j >= 1 - sqrt((2 - 2 beta^2) / (2 - beta^2)), for beta_j in [0, 1].

    Says less than chance below beta = 0.926. Fact A.4, erfc(t) <= 2 exp(-t^2 / 2), is not sharp:
    with erfc(t) <= exp(-t^2) the same steps give 1 - sqrt(1 - beta^2) / 2, also exact at beta = 0.

    Raises:
        ValueError: if ``beta`` is outside [0, 1]; Fact A.4 fails for negative arguments.
    """
    require(0 <= beta <= 1, "beta", beta, "in [0, 1] in Equation 14, such as 0.9")
    return 1 - math.sqrt((2 - 2 * beta**2) / (2 - beta**2))


def beta_from_weights(weights: Sequence[Tensor], head: Tensor, exit_layer: int) -> float:
    """beta_j of Theorem 6.2 for a linear network: the cosine of A_j^T theta and A_j^T B_j^T theta.

    Args:
        weights: W_1 .. W_k, each (d, d), in the order in which an input passes them.
        head: theta, (d,).
        exit_layer: j in 1..k; at k beta is 1.

    Raises:
        ValueError: if there is no such layer, shapes do not fit, or one of the two vectors is 0.
    """
    whole("exit_layer", exit_layer, 1)
    if exit_layer > len(weights):
        raise ValueError(f"exit_layer={exit_layer} must be in 1..{len(weights)}")
    theta = head.detach().double()
    for number, weight in enumerate(weights, start=1):
        if weight.shape != (len(theta), len(theta)):
            raise ValueError(
                f"weights[{number - 1}] has shape {tuple(weight.shape)}; with a head of "
                f"{tuple(head.shape)} it must be {(len(theta), len(theta))}"
            )

    def input_direction(vector: Tensor, layers: Sequence[Tensor]) -> Tensor:
        for weight in reversed(layers):
            vector = weight.detach().double().T @ vector
        return vector

    early = input_direction(theta, weights[:exit_layer])
    full = input_direction(theta, weights)
    lengths = float(early.norm()), float(full.norm())
    require(min(lengths) > 0, "norm of a direction", min(lengths), "above 0: such an exit is blind")
    return max(-1.0, min(1.0, float(early @ full) / (lengths[0] * lengths[1])))


def margins_from_losses(losses: Values) -> Tensor:
    """(n,) label * logit, label in {-1, 1}, of binary cross-entropies (n,): -log(e^loss - 1).

    Equation 62: the order of losses is the reverse order of these. For the loss of *one* prediction
    among several classes it is the log odds of the label; for means over several predictions it is
    no margin of Theorem 6.2, and only `beta_from_agreement` is left.

    Raises:
        ValueError: if a loss is not above 0 and finite.
    """
    exact = sample_losses("losses", losses, 1, zero=False)
    return -(exact + torch.log(-torch.expm1(-exact)))


def beta_from_margins(early_margins: Values, margins: Values) -> float:
    """beta_j from measured margins: Pearson's correlation, over samples, of label * logit.

    Under Assumption 6.1 the margins' differences between two samples are Gaussian with correlation
    beta_j (Equations 65 and 66), and differences of independent pairs correlate as the margins do.
    For inputs of another covariance S the correlation is the cosine in the inner product of S, and
    p_j holds with it. For a model that is not linear nothing says that margins are jointly
    Gaussian: compare ``argmax_agreement(beta)`` with `pairwise_agreement`.

    Raises:
        ValueError: with fewer than three samples, different shapes, or margins that are all equal.
    """
    early = sample_values("early_margins", early_margins, 3)
    full = sample_values("margins", margins, 3)
    like("early_margins", early, "margins", full)
    early, full = early - early.mean(), full - full.mean()
    lengths = float(early.norm()), float(full.norm())
    require(
        min(lengths) > 0, "spread of margins", min(lengths), "above 0: equal ones have no order"
    )
    return max(-1.0, min(1.0, float(early @ full) / (lengths[0] * lengths[1])))


def beta_from_agreement(agreement: float) -> float:
    """The beta_j that Theorem 6.2 gives a measured p_j: sin(pi (p_j - 1/2)).

    For losses whose ranks are those of any two jointly Gaussian numbers (a Gaussian copula), since
    p_j depends on the order only.

    Raises:
        ValueError: if ``agreement`` is outside [0, 1].
    """
    require(0 <= agreement <= 1, "agreement", agreement, "in [0, 1], such as 0.8")
    return math.sin(math.pi * (agreement - 0.5))


def wilson_interval(successes: float, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, from independent trials: (low, high) in [0, 1].

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), p = successes / n, z the
    normal quantile of (1 + confidence) / 2.

    Raises:
        ValueError: if there are no trials, ``successes`` is outside [0, trials], or ``confidence``
            outside (0, 1).
    """
    whole("trials", trials, 1)
    require(0 <= successes <= trials, "successes", successes, f"in [0, trials] = [0, {trials}]")
    require(0 < confidence < 1, "confidence", confidence, "in (0, 1), such as 0.95")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    middle = share + z**2 / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


@dataclass(frozen=True)
class Agreement:
    """p_j as measured.

    Attributes:
        share: of the pairs, that in which both losses are larger for the same sample.
        low: lower end of Wilson's interval.
        high: upper end.
        pairs: independent pairs that were compared.
    """

    share: float
    low: float
    high: float
    pairs: int


def pairwise_agreement(
    losses: Values, approximate_losses: Values, confidence: float = 0.95
) -> Agreement:
    """p_j (Equation 12) by counting: rows 0 and 1 are a pair, 2 and 3, and so on.

    No row is in two pairs, as the trials of Wilson's interval have to be independent, and rows must
    be in random order. A pair with equal exact losses has no larger one and is left out; equal
    approximate losses are half an agreement, what a random choice among them would bring.

    Args:
        losses: (n,) exact losses; a last odd one is not used.
        approximate_losses: (n,) of the same samples, or another score that they are chosen by.
        confidence: of the interval.

    Raises:
        ValueError: if shapes differ, or no pair has unequal exact losses.
    """
    exact = sample_values("losses", losses, 2)
    approximate = sample_values("approximate_losses", approximate_losses, 2)
    like("approximate_losses", approximate, "losses", exact)
    used = len(exact) // 2 * 2
    larger = (exact[0:used:2] - exact[1:used:2]).sign()
    larger_early = (approximate[0:used:2] - approximate[1:used:2]).sign()
    ordered = larger != 0
    pairs = int(ordered.sum())
    require(pairs > 0, "pairs with unequal losses", pairs, "at least 1; pass more samples")
    agreed = float(((1 + larger * larger_early) / 2)[ordered].sum())
    low, high = wilson_interval(agreed, pairs, confidence)
    return Agreement(share=agreed / pairs, low=low, high=high, pairs=pairs)
