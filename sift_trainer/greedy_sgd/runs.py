"""Greedy SGD and SGD themselves: many runs at once, seeded."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sift_trainer.greedy_sgd.problems import Problem

_CHUNK = 256  # steps whose samples are drawn at once


@dataclass(frozen=True)
class Runs:
    """What became of runs from one start.

    Attributes:
        steps: K, ascending.
        averages: (len(steps), runs, dimension), mean of w_0 .. w_{K-1}, of which the theorems
            speak.
        losses: E[F] of the averages, for each of ``steps``.
        errors: standard errors of ``losses``.
    """

    steps: list[int]
    averages: Tensor
    losses: list[float]
    errors: list[float]

    def tail(self) -> Tensor:
        """(dimension,) mean over all runs and the second half of their steps.

        Half of the last K has to be among ``steps``, as it is in `powers`.
        """
        last, half = self.steps[-1], self.steps.index(self.steps[-1] // 2)
        kept = self.averages[-1] * last - self.averages[half] * self.steps[half]
        return kept.mean(dim=0) / (last - self.steps[half])

    def first_below(self, loss: float) -> float:
        """K at which the loss of the average has come down to ``loss``; `math.inf` if it never has.

        Between two recorded steps by straight lines.
        """
        for index, found in enumerate(self.losses):
            if found <= loss:
                if index == 0:
                    return self.steps[0]
                above, start = self.losses[index - 1], self.steps[index - 1]
                share = (above - loss) / (above - found)
                return start + share * (self.steps[index] - start)
        return float("inf")


def powers(last: int, per_octave: int = 4) -> list[int]:
    """Steps up to ``last``, so many each time they double; with ``last`` and its half."""
    found = {last, last // 2}
    exponent = 0
    while (steps := round(2 ** (exponent / per_octave))) < last:
        found.add(steps)
        exponent += 1
    return sorted(found)


def run(
    problem: Problem,
    *,
    num_candidates: int,
    learning_rate: float,
    offset: float,
    steps: Sequence[int],
    runs: int,
    seed: int,
    sigma: float = 0.0,
) -> Runs:
    """Greedy SGD (Equations 3 and 4), or SGD with ``num_candidates`` 1; one sample per update.

    Args:
        problem: what is minimised.
        num_candidates: R.
        learning_rate: eta.
        offset: the start is w* + offset along the first axis, so D_0 is its size.
        steps: K at which the average is recorded, ascending.
        runs: independent runs.
        seed: of all draws.
        sigma: of the noise in Assumption 5.12, which is standard normal here.

    Raises:
        ValueError: if there are fewer than two runs, which have no standard error.
    """
    if runs < 2:
        raise ValueError(f"runs={runs} must be at least 2, such as 64")
    generator = torch.Generator().manual_seed(seed)
    weights = problem.minimiser.repeat(runs, 1)
    weights[:, 0] += offset
    total, recorded = torch.zeros_like(weights), {}
    every, wanted = torch.arange(runs), set(steps)
    for done in range(0, steps[-1], _CHUNK):
        shape = (min(_CHUNK, steps[-1] - done), runs, num_candidates)
        drawn = problem.draw(shape, generator)
        noise = torch.zeros(shape, dtype=torch.float64)
        if sigma > 0:
            noise.normal_(0, sigma, generator=generator)
        for step in range(shape[0]):
            total += weights
            features, targets = drawn[0][step], drawn[1][step]
            residuals = (features * weights[:, None]).sum(dim=-1) - targets
            approximate_logs = 2 * residuals.abs().log() + noise[step]
            chosen = approximate_logs.argmax(dim=1)
            gradients = features[every, chosen] * residuals[every, chosen, None]
            weights = weights - learning_rate * gradients
            if done + step + 1 in wanted:
                recorded[done + step + 1] = total / (done + step + 1)
    averages = torch.stack([recorded[count] for count in steps])
    losses = problem.mean_loss(averages)
    errors = losses.std(dim=1) / runs**0.5
    return Runs(list(steps), averages, losses.mean(dim=1).tolist(), errors.tolist())


def last_crossing(first: Runs, second: Runs) -> float:
    """K after which ``first``, smaller until then, is the larger one to the end.

    `math.inf` where there is none. Between two recorded steps by straight lines.
    """
    gaps = [one - other for one, other in zip(first.losses, second.losses, strict=True)]
    behind = len(gaps)
    while behind > 0 and gaps[behind - 1] > 0:
        behind -= 1
    if behind in (0, len(gaps)):
        return float("inf")
    share = -gaps[behind - 1] / (gaps[behind] - gaps[behind - 1])
    start = first.steps[behind - 1]
    return start + share * (first.steps[behind] - start)
