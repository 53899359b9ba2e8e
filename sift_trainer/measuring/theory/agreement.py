"""How often does an early exit select what the full model would? p_j and beta_j (Section 6.1).

p_j is the probability that of two samples the same one has the larger loss at the exit after layer
j and at the end. Theorem 6.2 gives it for linear networks with binary labels if label * input is
Gaussian (Assumption 6.1). Section 3 prints the sigmoid as 1 / (1 + e^z), and Equation 62 uses that.
With the usual 1 / (1 + e^-z) both inequalities of Equation 62 reverse, and p_j is the same.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from sift_trainer.measuring.theory.checks import (
    Values,
    require,
    same_shape,
    sample_losses,
    sample_values,
)


def argmax_agreement(beta: float) -> float:
    """p_j of Theorem 6.2 (Equation 13) for beta_j in [-1, 1]: 1/2 + arcsin(beta) / pi.

    The integral of Equation 13 is twice the orthant probability of two normal numbers with
    correlation beta (Equation 64), 1/4 + arcsin(beta) / (2 pi) by Sheppard's formula.

    Raises:
        ValueError: if ``beta`` is outside [-1, 1].
    """
    require(-1 <= beta <= 1, "beta", beta, "in [-1, 1], because it is a cosine; such as 0.9")
    return 0.5 + math.asin(beta) / math.pi


def margins_from_losses(losses: Values) -> Tensor:
    """(n,) label * logit, label in {-1, 1}, from binary cross-entropies (n,): -log(e^loss - 1).

    By Equation 62, the order of losses is the reverse order of these. For the loss of *one*
    prediction among several classes it is the log odds of the label. The mean loss of several
    predictions has no margin of Theorem 6.2: use `theory.beta_from_agreement`.

    Raises:
        ValueError: if a loss is not above 0 and finite.
    """
    exact = sample_losses("losses", losses, 1, positive=True)
    return -(exact + torch.log(-torch.expm1(-exact)))


def beta_from_margins(early_margins: Values, margins: Values) -> float:
    """beta_j from measured margins (label * logit): their Pearson correlation over samples.

    Under Assumption 6.1 the differences of margins between two samples are Gaussian with
    correlation beta_j (Equations 65 and 66), which is also the correlation of the margins. Margins
    of a model that is not linear need not be jointly Gaussian: compare ``argmax_agreement(beta)``
    with `pairwise_agreement`.

    Raises:
        ValueError: with fewer than three samples, different shapes, or margins that are all equal.
    """
    early = sample_values("early_margins", early_margins, 3)
    full = sample_values("margins", margins, 3)
    same_shape("early_margins", early, "margins", full)
    beta = float(torch.corrcoef(torch.stack([early, full]))[0, 1])
    require(not math.isnan(beta), "beta", beta, "a number: the margins are all equal")
    return beta


def wilson_interval(successes: float, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (low, high) of a proportion, from independent trials.

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), p = successes / n, z the
    normal quantile of (1 + confidence) / 2.

    Raises:
        ValueError: if there are no trials, ``successes`` is outside [0, trials], or ``confidence``
            outside (0, 1).
    """
    require(trials >= 1, "trials", trials, "at least 1")
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
        share: share of pairs whose larger loss is the same sample's at the exit and at the end.
        low: lower end of Wilson's interval.
        high: upper end.
        pairs: number of independent pairs.
    """

    share: float
    low: float
    high: float
    pairs: int


def pairwise_agreement(
    losses: Values, approximate_losses: Values, confidence: float = 0.95
) -> Agreement:
    """p_j (Equation 12) by counting over the pairs of rows (0, 1), (2, 3), ...

    Each row is in one pair only, because Wilson's interval needs independent trials. The rows must
    be in random order. Pairs with equal exact losses are left out. Equal approximate losses count
    as half an agreement, the expectation of a random choice.

    Args:
        losses: (n,) exact losses; the last is not used if n is odd.
        approximate_losses: (n,) approximate losses of the same samples, or another score.
        confidence: of the interval.

    Raises:
        ValueError: if shapes differ, or no pair has unequal exact losses.
    """
    exact = sample_values("losses", losses, 2)
    approximate = sample_values("approximate_losses", approximate_losses, 2)
    same_shape("approximate_losses", approximate, "losses", exact)
    used = len(exact) // 2 * 2
    larger = (exact[0:used:2] - exact[1:used:2]).sign()
    larger_early = (approximate[0:used:2] - approximate[1:used:2]).sign()
    unequal = larger != 0
    pairs = int(unequal.sum())
    require(pairs > 0, "pairs with unequal losses", pairs, "at least 1; pass more samples")
    agreements = float(((1 + larger * larger_early) / 2)[unequal].sum())
    low, high = wilson_interval(agreements, pairs, confidence)
    return Agreement(share=agreements / pairs, low=low, high=high, pairs=pairs)
