"""Seeded runs of greedy SGD and SGD, many at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sift_trainer.reproduction.theory.problems import Problem

LEARNING_RATE = 0.05
DISTANCE = 5.0
"""D_0: runs start at w* + D_0 along the first axis."""

_CHUNK = 256  # number of steps whose samples are drawn at once


@dataclass(frozen=True)
class Runs:
    """Runs from one start, recorded after each of ``steps``."""

    steps: list[int]
    averages: Tensor  # (len(steps), runs, dimension), mean of w_0 .. w_{K-1}, as in the theorems
    losses: list[float]  # E[F] of the averages
    errors: list[float]  # standard errors of the losses

    def tail(self) -> Tensor:
        """(dimension,) mean w over all runs and the second half of their steps."""
        last, half = self.steps[-1], self.steps.index(self.steps[-1] // 2)
        kept = self.averages[-1] * last - self.averages[half] * self.steps[half]
        return kept.mean(dim=0) / (last - self.steps[half])

    def first_below(self, loss: float) -> float | None:
        """K at which the loss of the average has fallen to ``loss``; None if it never has."""
        above = [found - loss for found in self.losses]
        index = next((index for index, gap in enumerate(above) if gap <= 0), None)
        return None if index is None else _zero_before(index, self.steps, above)


def last_crossing(first: Runs, second: Runs) -> float | None:
    """K after which ``first``, smaller until then, stays the larger one; None if there is none."""
    gaps = [one - other for one, other in zip(first.losses, second.losses, strict=True)]
    index = len(gaps)
    while index > 0 and gaps[index - 1] > 0:
        index -= 1
    return None if index in (0, len(gaps)) else _zero_before(index, first.steps, gaps)


def _zero_before(index: int, steps: Sequence[int], values: Sequence[float]) -> float:
    """The step at which ``values`` change sign before ``index``, by linear interpolation."""
    if index == 0:
        return steps[0]
    share = values[index - 1] / (values[index - 1] - values[index])
    return steps[index - 1] + share * (steps[index] - steps[index - 1])


def powers(last: int) -> list[int]:
    """Steps up to ``last``, four per doubling; includes ``last`` and its half."""
    found = {round(2 ** (exponent / 4)) for exponent in range(4 * math.ceil(math.log2(last)))}
    return sorted({step for step in found if step < last} | {last, last // 2})


def run(problem: Problem, num_candidates: int, last: int, runs: int, sigma: float = 0.0) -> Runs:
    """Greedy SGD (Equations 3 and 4), or SGD if ``num_candidates`` is 1; one sample per update.

    Args:
        problem: the problem to minimise.
        num_candidates: R; also the seed, so that every sigma gets the same samples.
        last: number of updates.
        runs: number of independent runs, at least 2 (for the standard error).
        sigma: of the noise in Assumption 5.12, standard normal here.
    """
    steps = powers(last)
    generator = torch.Generator().manual_seed(num_candidates)
    weights = problem.minimiser.repeat(runs, 1)
    weights[:, 0] += DISTANCE
    total, every, recorded = torch.zeros_like(weights), torch.arange(runs), []
    for done in range(0, last, _CHUNK):
        shape = (min(_CHUNK, last - done), runs, num_candidates)
        drawn = problem.draw(shape, generator)
        noise = torch.zeros(shape, dtype=torch.float64)
        if sigma > 0:
            noise.normal_(0, sigma, generator=generator)
        for step in range(shape[0]):
            total += weights
            features, targets = drawn[0][step], drawn[1][step]
            residuals = (features * weights[:, None]).sum(dim=-1) - targets
            approximate_logs = 2 * residuals.abs().log() + noise[step]
            selected = approximate_logs.argmax(dim=1)
            gradients = features[every, selected] * residuals[every, selected, None]
            weights = weights - LEARNING_RATE * gradients
            if done + step + 1 in steps:
                recorded.append(total / (done + step + 1))
    averages = torch.stack(recorded)
    losses = problem.mean_loss(averages)
    errors = losses.std(dim=1) / runs**0.5
    return Runs(steps, averages, losses.mean(dim=1).tolist(), errors.tolist())
