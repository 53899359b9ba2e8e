"""Rules of selection: which samples to keep, by their scores, and with which weights."""

import torch
from torch import Tensor

from sift_trainer.scoring.criteria import UNLABELLED
from sift_trainer.selection.schedule import num_random

MAX_BETA = 1e6
"""With a larger beta `select_percentile` equals `select_top_k`, and numbers overflow in fp32."""


def is_nonfinite(scores: Tensor) -> Tensor:
    """Scores (B,) that must not win: NaN and both infinities."""
    return ~torch.isfinite(scores)


def without_top(scores: Tensor, k: int, skip: int) -> Tensor:
    """Scores (B,) in which the ``skip`` largest are ``UNLABELLED``, so that they rank last. Only
    finite scores of labelled samples are replaced, and at least k of these remain."""
    if skip == 0:
        return scores
    ranked = finite_or_last(scores)
    skipped = ((ranked > UNLABELLED).sum() - k).clamp(0, skip)
    place = ranked.sort(descending=True, stable=True).indices.argsort()
    return scores.masked_fill(place < skipped, UNLABELLED)


def select_top_k(scores: Tensor, k: int) -> Tensor:
    """Indices (k,) of the k largest scores (B,), ascending; among equal scores the first win.
    Non-finite scores rank below all others (`torch.topk` ranks NaN first).

    Raises:
        ValueError: if k is not in 1..B.
    """
    check_k(scores, k)
    order = finite_or_last(scores).sort(descending=True, stable=True).indices
    return order[:k].sort().values


def select_percentile(scores: Tensor, k: int, beta: float, generator: torch.Generator) -> Tensor:
    """Indices (k,) drawn without replacement with weights percentile^beta, ascending.

    The percentile of a score (B,) is the share of the candidates' scores that are not larger.
    (Selective-Backprop, Jiang et al., 2019, takes percentiles of recent losses.) ``beta`` 0 draws
    uniformly; a large one nearly as `select_top_k`. Unlabelled samples and non-finite scores are
    taken only after all others. B numbers are drawn from the CPU ``generator`` for any scores.

    Raises:
        ValueError: if k is not in 1..B, or beta not in [0, 1e6].
    """
    if not 0 <= beta <= MAX_BETA:
        raise ValueError(f"beta={beta} must be in [0, {MAX_BETA:g}], such as 1.0")
    check_k(scores, k)
    ranked = finite_or_last(scores)
    no_larger = torch.searchsorted(ranked.sort().values, ranked, right=True)
    percentile = (no_larger - (ranked <= UNLABELLED).sum()) / (ranked > UNLABELLED).sum()
    # Descending log weight + Gumbel noise is the order of draws one after the other (Efraimidis
    # and Spirakis, 2006, in logarithms).
    uniform = torch.rand(len(scores), generator=generator, dtype=torch.float64)
    noise = -(-uniform.clamp(min=torch.finfo(torch.float64).tiny).log()).log()
    # The copy must not block: the host would wait for the whole scoring pass.
    keys = beta * percentile.log() + noise.float().to(scores.device, non_blocking=True)
    return select_top_k(torch.where(ranked > UNLABELLED, keys, ranked), k)


def select_mixed(scores: Tensor, k: int, share: float, generator: torch.Generator) -> Tensor:
    """Indices (k,): the largest scores (B,), and a ``share`` of the k drawn uniformly from all
    others, ascending. A share that is no whole number of samples is rounded at random.

    Unlabelled samples and non-finite scores are taken only after all others. A ValueError if k is
    not in 1..B.
    """
    check_k(scores, k)
    return _mixed(scores, k, num_random(k, share, generator), generator)


def select_stratified(
    scores: Tensor, k: int, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The draw of `select_mixed` and weights (k,) with which the expected loss is the mean over all
    candidates (Horvitz and Thompson, 1952): hard samples stand for themselves, and each random one
    for as many of the rest. At least one sample is random if k is smaller than B."""
    check_k(scores, k)
    random = max(1, num_random(k, share, generator))
    hard = k - random
    rows = _mixed(scores, k, random, generator)
    ranked = finite_or_last(scores)
    usable = (ranked > UNLABELLED).sum().clamp(min=k)
    is_hard = torch.zeros_like(scores, dtype=torch.bool)
    if hard:
        is_hard = is_hard.index_fill(0, select_top_k(scores, hard), True)
    stands_for = torch.where(is_hard[rows], 1.0, (usable - hard) / random)
    return rows, stands_for * k / usable


def select_importance(
    scores: Tensor, k: int, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Indices (k,) drawn without replacement with probabilities in proportion to
    (1 - share) * score / mean + share, and weights (k,) with which the expected loss is the mean
    over all candidates: at most 1 / share.

    Katharopoulos and Fleuret (2018) draw by importance; the constant part is Owen and Zhou's
    (2000) defensive mixture. Negative scores count as 0.
    """
    check_k(scores, k)
    ranked = finite_or_last(scores)
    usable = ranked > UNLABELLED
    values = ranked.clamp(min=0).double()
    mean = values.sum() / usable.sum().clamp(min=1)
    return _draw((1 - share) * values / mean.clamp(min=1e-12) + share, usable, k, generator)


def select_infobatch(
    scores: Tensor, k: int, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Indices (k,): samples with a score below the mean are drawn with ``share`` times the
    probability of the others; and weights (k,) with which the expected loss is the mean over all
    candidates. With k = 3 B / 4, a share of 1/2 and half of the scores below the mean this is
    InfoBatch (Qin et al., ICLR 2024, Equations 3 to 5), which keeps a varying number of samples."""
    check_k(scores, k)
    ranked = finite_or_last(scores)
    usable = ranked > UNLABELLED
    values = ranked.where(usable, 0).double()
    mean = values.sum() / usable.sum().clamp(min=1)
    return _draw(torch.where(values < mean, share, 1.0).double(), usable, k, generator)


def _draw(
    chances: Tensor, usable: Tensor, k: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Indices (k,), and weights (k,) k / (B p), of a systematic draw in random order. A sample is
    drawn with the probability p in proportion to its ``chances`` (B,), or 1 where that is more.
    Samples that are not ``usable`` (B,) are drawn only after all others."""
    chances = torch.where(usable, chances, 1e-30).clamp(min=1e-30)
    sorted_chances = chances.sort(descending=True).values
    left = sorted_chances.flip(0).cumsum(0).flip(0)  # the sum from each place on
    places = torch.arange(len(chances), device=chances.device)
    fits = (k - places) * sorted_chances <= left * (1 + 1e-12)
    certain = fits.int().argmax()  # so many have the probability 1
    probabilities = ((k - certain) * chances / left[certain]).clamp(max=1)
    draws = torch.rand(len(chances) + 1, generator=generator, dtype=torch.float64)
    draws = draws.to(chances.device, non_blocking=True)
    order = draws[1:].argsort()
    ends = probabilities[order].cumsum(0)
    points = (places[:k] + draws[0]) * (ends[-1] / k)
    rows = order[torch.searchsorted(ends, points, right=True).clamp(max=len(chances) - 1)]
    weights = k / (usable.sum().clamp(min=k) * probabilities[rows])
    return rows, weights.float()


def _mixed(scores: Tensor, k: int, random: int, generator: torch.Generator) -> Tensor:
    """Indices (k,), ascending, ``random`` of them drawn uniformly. B numbers are drawn from the CPU
    ``generator`` for any scores (B,)."""
    ranked = finite_or_last(scores)
    uniform = torch.rand(len(scores), generator=generator).to(scores.device, non_blocking=True)
    keys = torch.where(ranked > UNLABELLED, uniform.to(ranked), ranked)
    if hard := k - random:
        keys = keys.index_fill(0, select_top_k(scores, hard), 1.0)  # above all of [0, 1)
    return select_top_k(keys, k)


def finite_or_last(scores: Tensor) -> Tensor:
    return scores.masked_fill(is_nonfinite(scores), -torch.inf)


def check_k(scores: Tensor, k: int) -> None:
    if not 1 <= k <= len(scores):
        raise ValueError(f"k={k} must be in 1..{len(scores)}, the number of scores")
