"""When to sift, and which rows to keep."""

import math

import torch
from torch import Tensor


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


def is_nonfinite(scores: Tensor) -> Tensor:
    """Scores (B,) that must not win: NaN and both infinities."""
    return ~torch.isfinite(scores)


def select_top_k(scores: Tensor, k: int) -> Tensor:
    """Indices (k,) of the k largest scores (B,), in ascending order of index.

    Non-finite scores rank below all others, whatever their sign; among equals the first rows win,
    so a batch of non-finite scores keeps its first k rows. (`torch.topk` ranks NaN first.)

    Raises:
        ValueError: if k is not in 1..B.
    """
    if not 1 <= k <= len(scores):
        raise ValueError(f"k={k} must be in 1..{len(scores)}, the number of scores")
    ranked = scores.masked_fill(is_nonfinite(scores), -torch.inf)
    order = ranked.sort(descending=True, stable=True).indices
    return order[:k].sort().values
