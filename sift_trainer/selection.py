"""When to sift, and which rows to keep."""

import math

import torch
from torch import Tensor

from sift_trainer.scoring import UNLABELLED

SELECTORS = ("top_k", "percentile")
"""How rows are chosen by their scores: the largest, or by a draw that favours large ones."""

MAX_BETA = 1e6
"""Above it `select_percentile` has long been `select_top_k`, and numbers get too large for fp32."""


def steps_of(value: float, total_steps: int) -> int:
    """A number of steps as it is, or, below 1, that share of all steps (rounded down, so that
    shares which leave something leave at least one step)."""
    # 0.29 * 100 is 28.999999999999996 in floating point, and must not become 28.
    return math.floor(round(value * total_steps, 6)) if value < 1 else int(value)


def should_sift(
    step: int, total_steps: int, warmup_steps: float, cooldown_steps: float, interval: int
) -> bool:
    """Whether optimisation step ``step`` (from 0) of ``total_steps`` sifts.

    Warm-up: the paper leaves the first 20K of 800K steps alone (section 7.1). Cool-down: greedy
    selection may stall above the minimum (Remark 5.9), so the last steps can go without.
    """
    begin = steps_of(warmup_steps, total_steps)
    end = total_steps - steps_of(cooldown_steps, total_steps)
    return begin <= step < end and (step - begin) % interval == 0


def num_candidates(batch_size: int, keep_ratio: float) -> int:
    """How many rows to draw so that ``batch_size`` of them are kept."""
    return round(batch_size / keep_ratio)


def num_kept(candidates: int, keep_ratio: float) -> int:
    """How many of ``candidates`` rows are trained on, at least one.

    The inverse of `num_candidates` for full batches, the same share for a short last one.
    """
    return max(1, round(candidates * keep_ratio))


def num_skipped(candidates: int, kept: int, skip_top: float) -> int:
    """How many of the highest-scored ``candidates`` are left out: their share ``skip_top``,
    rounded, but never more than are not ``kept`` anyway."""
    return min(round(candidates * skip_top), candidates - kept)


def num_random(kept: int, random_share: float, generator: torch.Generator) -> int:
    """How many of the ``kept`` rows are drawn at random: ``kept * random_share`` in the mean.

    A share that is no whole number of rows is rounded up or down at random. So a batch of one row
    takes it by score in half of the steps at a share of 0.5.
    """
    exact = round(kept * random_share, 6)
    whole = math.floor(exact)
    if exact == whole:
        return whole
    return whole + int(torch.rand((), generator=generator) < exact - whole)


def is_nonfinite(scores: Tensor) -> Tensor:
    """Scores (B,) that must not win: NaN and both infinities."""
    return ~torch.isfinite(scores)


def select_top_k(scores: Tensor, k: int, skip: int = 0) -> Tensor:
    """Indices (k,) of the k largest scores (B,) after the ``skip`` largest, in ascending order of
    index.

    Non-finite scores rank below all others, whatever their sign; among equals the first rows win,
    so a batch of non-finite scores keeps its first k rows. (`torch.topk` ranks NaN first.) Left
    out are finite scores of labelled samples alone, and fewer than ``skip`` where otherwise
    fewer than k of these would remain: a row without a score never takes the place of one that
    has one.

    Raises:
        ValueError: if k is not in 1..B, or skip not in 0..B - k.
    """
    _, order, skipped = _ranking(scores, k, skip)
    return order[skipped + torch.arange(k, device=order.device)].sort().values


def select_percentile(
    scores: Tensor, k: int, beta: float, generator: torch.Generator, skip: int = 0
) -> Tensor:
    """Indices (k,) drawn without replacement with weights percentile^beta, in ascending order.

    The percentile of a score (B,) is the share of the candidates' scores that are no larger, as
    in Selective-Backprop (Jiang et al., 2019), whose percentiles are of recent losses and which
    takes each sample by a draw of its own. ``beta`` 0 draws uniformly; the larger it is, the more
    the draw is `select_top_k`'s choice. The ``skip`` largest are left out of the draw, and what
    ranks last in `select_top_k` does so here, after all that can be drawn.

    Args:
        generator: CPU generator, of which B numbers are taken whatever the scores are.

    Raises:
        ValueError: if k is not in 1..B, skip not in 0..B - k, or beta not in [0, 1e6].
    """
    if not 0 <= beta <= MAX_BETA:
        raise ValueError(f"beta={beta} must be in [0, {MAX_BETA:g}], such as 1.0")
    ranked, order, skipped = _ranking(scores, k, skip)
    drawable = (ranked > UNLABELLED) & (order.argsort() >= skipped)
    no_larger = torch.searchsorted(ranked.sort().values, ranked, right=True)
    percentile = (no_larger - (ranked <= UNLABELLED).sum()) / (ranked > UNLABELLED).sum()
    # Largest log weight + Gumbel noise first is the order of drawing one after the other
    # (Efraimidis and Spirakis, 2006, in logarithms).
    uniform = torch.rand(len(scores), generator=generator, dtype=torch.float64)
    noise = -(-uniform.clamp(min=torch.finfo(torch.float64).tiny).log()).log()
    # Not waiting for the copy: the host would wait for the whole scoring pass.
    keys = beta * percentile.log() + noise.float().to(scores.device, non_blocking=True)
    return select_top_k(torch.where(drawable, keys, ranked.clamp(max=UNLABELLED)), k)


def add_random(
    scores: Tensor, chosen: Tensor, k: int, generator: torch.Generator, skip: int = 0
) -> Tensor:
    """Indices (k,) of the ``chosen`` rows and of others, drawn uniformly from the rest without
    replacement, in ascending order.

    What ranks last in `select_top_k` does so here, after all that can be drawn, and the ``skip``
    largest scores (B,) are left out of the draw.

    Args:
        chosen: at most k indices.
        generator: CPU generator, of which B numbers are taken whatever the scores are.

    Raises:
        ValueError: if k is not in 1..B, or skip not in 0..B - k.
    """
    ranked, order, skipped = _ranking(scores, k, skip)
    drawable = (ranked > UNLABELLED) & (order.argsort() >= skipped)
    uniform = torch.rand(len(scores), generator=generator).to(scores.device, non_blocking=True)
    keys = torch.where(drawable, uniform.to(ranked), ranked.clamp(max=UNLABELLED))
    return select_top_k(keys.index_fill(0, chosen, 1.0), k)  # above all of [0, 1)


def _ranking(scores: Tensor, k: int, skip: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (B,) with -inf for the non-finite, their indices (B,) from the largest on, and how
    many of these are left out (on their device: nothing here waits for it)."""
    if not 1 <= k <= len(scores):
        raise ValueError(f"k={k} must be in 1..{len(scores)}, the number of scores")
    if not 0 <= skip <= len(scores) - k:
        raise ValueError(
            f"skip={skip} must be in 0..{len(scores) - k}, the number of scores less k={k}"
        )
    ranked = scores.masked_fill(is_nonfinite(scores), -torch.inf)
    order = ranked.sort(descending=True, stable=True).indices
    return ranked, order, ((ranked > UNLABELLED).sum() - k).clamp(0, skip)
