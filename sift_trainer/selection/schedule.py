"""When to sift, and how many samples to draw and to keep."""

import math

import torch

COMPARED_STEPS = 4
"""How often scores are compared with the losses of kept samples, if nothing else needs these."""


def steps_of(value: float, total_steps: int) -> int:
    """``value`` as a number of steps; below 1 it is a share of all steps, rounded down."""
    # 0.29 * 100 is 28.999999999999996 in floating point, and must not become 28.
    return math.floor(round(value * total_steps, 6)) if value < 1 else int(value)


def should_sift(
    step: int, total_steps: int, warmup_steps: float, cooldown_steps: float, interval: int
) -> bool:
    """Whether optimisation step ``step`` (from 0) of ``total_steps`` sifts.

    Warm-up: the paper does not sift in the first 20K of 800K steps (section 7.1). Cool-down: greedy
    selection may stall above the minimum (Remark 5.9), so the last steps do not sift. In between
    every n-th step sifts with an ``interval`` of n, and every n-th does not with one of -n.
    """
    schedule = total_steps, warmup_steps, cooldown_steps, interval
    return num_sifted(step + 1, *schedule) > num_sifted(step, *schedule)


def num_sifted(
    step: int, total_steps: int, warmup_steps: float, cooldown_steps: float, interval: int
) -> int:
    """How many of the steps before ``step`` sift, by the schedule of `should_sift`."""
    begin = steps_of(warmup_steps, total_steps)
    end = total_steps - steps_of(cooldown_steps, total_steps)
    whole, rest = divmod(max(0, min(step, end) - begin), abs(interval))
    if interval > 0:
        return whole + (rest > 0)
    return whole * (-interval - 1) + min(rest, -interval - 1)


def measures_at(
    step: int,
    total_steps: int,
    warmup_steps: float,
    cooldown_steps: float,
    interval: int,
    *,
    every: int,
) -> bool:
    """Whether a step that does not sift may be scored, by the schedule of `should_sift`: one of
    ``every`` so many until the cool-down begins. Steps in which only a gate prevents sifting are
    counted by themselves."""
    schedule = total_steps, warmup_steps, cooldown_steps, interval
    end = total_steps - steps_of(cooldown_steps, total_steps)
    sifted = num_sifted(step, *schedule)
    counted = sifted if should_sift(step, *schedule) else step - sifted
    return step < end and counted % every == 0


def compares_at(
    step: int, total_steps: int, warmup_steps: float, cooldown_steps: float, interval: int
) -> bool:
    """Whether a step that sifts compares scores with losses, by the schedule of `should_sift`."""
    before = num_sifted(step, total_steps, warmup_steps, cooldown_steps, interval)
    return before % COMPARED_STEPS == 0


def num_candidates(batch_size: int, keep_ratio: float) -> int:
    """How many samples to draw so that ``batch_size`` of them are kept."""
    return round(batch_size / keep_ratio)


def num_drawn(samples: int, kept: int, keep_ratio: float) -> int:
    """How many candidates an epoch draws for the stock Trainer's epoch of so many ``samples``, in
    batches of ``kept``."""
    whole, rest = divmod(samples, kept)
    return whole * num_candidates(kept, keep_ratio) + num_candidates(rest, keep_ratio)


def num_kept(candidates: int, keep_ratio: float) -> int:
    """How many of ``candidates`` samples are trained on, at least one."""
    return max(1, round(candidates * keep_ratio))


def num_skipped(candidates: int, kept: int, skip_top: float) -> int:
    """How many of the highest-scored candidates are left out, at most ``candidates - kept``."""
    return min(round(candidates * skip_top), candidates - kept)


def num_random(kept: int, random_share: float, generator: torch.Generator) -> int:
    """How many of the ``kept`` samples are drawn at random: ``kept * random_share``, rounded up or
    down at random so that it is right on average."""
    exact = round(kept * random_share, 6)
    whole = math.floor(exact)
    if exact == whole:
        return whole
    return whole + int(torch.rand((), generator=generator) < exact - whole)
