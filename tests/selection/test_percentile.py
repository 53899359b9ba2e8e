"""The percentile draw: its probabilities by enumeration, what it never draws, its seeds."""

from collections import Counter
from itertools import permutations
from math import sqrt

import pytest
import torch
from torch import Tensor

from sift_trainer import select_percentile, select_top_k
from sift_trainer.scoring.criteria import UNLABELLED
from sift_trainer.selection.rules import without_top

NAN, INF = float("nan"), float("inf")
DRAWS = 2000


def draw(
    scores: Tensor, k: int, beta: float, generator: int | torch.Generator, skip: int = 0
) -> tuple[int, ...]:
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    return tuple(select_percentile(without_top(scores, k, skip), k, beta, generator).tolist())


def drawn(scores: list[float], k: int, beta: float, skip: int = 0) -> Counter[tuple[int, ...]]:
    """Which rows came out of how many of `DRAWS` draws."""
    tensor, generator = torch.tensor(scores), torch.Generator().manual_seed(0)
    return Counter(draw(tensor, k, beta, generator, skip) for _ in range(DRAWS))


def chances(weights: list[float], k: int) -> dict[tuple[int, ...], float]:
    """Probability of each set of k rows, drawn one after the other, each with a probability that is
    its weight's share of those that are left."""
    total: dict[tuple[int, ...], float] = {}
    for order in permutations([row for row, weight in enumerate(weights) if weight], k):
        left, chance = sum(weights), 1.0
        for row in order:
            chance *= weights[row] / left
            left -= weights[row]
        chosen = tuple(sorted(order))
        total[chosen] = total.get(chosen, 0.0) + chance
    return total


def distance(counts: Counter[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> float:
    """Chi-square, in standard deviations from its mean; infinite for what is impossible."""
    if not set(counts) <= set(expected):
        return INF
    freedom = len(expected) - 1
    squares = [(counts[rows] - DRAWS * p) ** 2 / (DRAWS * p) for rows, p in expected.items()]
    return (sum(squares) - freedom) / sqrt(2 * freedom)


CASES = {
    # scores, k, beta, skip, percentiles
    "two of four": ([0.4, 9.0, -3.0, 0.5], 2, 1.0, 0, [2 / 4, 4 / 4, 1 / 4, 3 / 4]),
    "rooted": ([1.0, 2.0, 5.0, 4.0, 3.0], 3, 0.5, 0, [0.2, 0.4, 1.0, 0.8, 0.6]),
    "equals have one percentile": ([2.0, 1.0, 2.0, 3.0], 2, 2.0, 0, [3 / 4, 1 / 4, 3 / 4, 1]),
    "beta 0 is uniform": ([1.0, 2.0, 3.0, 4.0, 100.0], 2, 0.0, 0, [1.0] * 5),
    "of those with a score, without the highest": (
        [NAN, 3.0, UNLABELLED, 1.0, 4.0, 2.0, -INF],
        2,
        1.0,
        1,
        [0, 3 / 4, 0, 1 / 4, 0, 2 / 4, 0],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_sets_are_drawn_with_the_probabilities_of_successive_draws(case: str) -> None:
    scores, k, beta, skip, percentiles = CASES[case]
    counts = drawn(scores, k, beta, skip)
    weights = [percentile**beta if percentile else 0.0 for percentile in percentiles]
    assert distance(counts, chances(weights, k)) < 4
    if case == "two of four":  # so that the test can fail
        assert distance(counts, chances([p**1.5 for p in percentiles], k)) > 4


@pytest.mark.parametrize(("beta", "highest"), [(1.0, 0.79), (2.0, 0.95)])
def test_at_its_upper_end_the_draw_is_flatter_than_percentile_to_the_beta(
    beta: float, highest: float
) -> None:
    """In the limit of many candidates half are kept where the mean of 1 - exp(-c u) is 1/2, u being
    uniform and beta 1: c = 1.594, so that the highest is kept with 1 - exp(-c) = 0.797."""
    kept = sum(63 in rows for rows in drawn([float(row) for row in range(64)], 32, beta).elements())
    assert kept / DRAWS == pytest.approx(highest, abs=0.03)


def test_a_large_beta_keeps_the_largest() -> None:
    scores = torch.tensor([0.3, 2.0, NAN, 1.0, UNLABELLED, 5.0, -4.0])
    for seed in range(20):
        for k, skip in ((1, 0), (2, 0), (5, 0), (6, 0), (7, 0), (2, 3), (3, 4)):
            expected = tuple(select_top_k(without_top(scores, k, skip), k).tolist())
            for beta in (1e3, 1e6):
                assert draw(scores, k, beta, seed, skip) == expected


def test_samples_without_a_score_come_last() -> None:
    """First all with a score, then those without labels, then the non-finite, in their order."""
    scores = torch.tensor([NAN, 3.0, UNLABELLED, 1.0, INF, UNLABELLED, 2.0])
    for seed in range(20):
        for beta in (0.0, 1.0, 4.0):
            assert draw(scores, 3, beta, seed, skip=3) == (1, 3, 6)
            assert draw(scores, 4, beta, seed, skip=3) == (1, 2, 3, 6)
            assert draw(scores, 6, beta, seed) == (0, 1, 2, 3, 5, 6)
    for bad in (NAN, INF, -INF, UNLABELLED):
        assert draw(torch.full((5,), bad), 3, 1.0, 0) == (0, 1, 2)


def test_a_draw_depends_on_its_generator_alone_and_takes_the_same_from_it() -> None:
    scores = torch.randn(64, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    assert draw(scores, 32, 1.0, 3) == draw(scores, 32, 1.0, 3)
    assert len({draw(scores, 32, 1.0, seed) for seed in range(20)}) == 20
    assert torch.equal(torch.get_rng_state(), before)
    states = []
    for others in (torch.ones(9), torch.full((9,), NAN), torch.arange(9.0)):
        generator = torch.Generator().manual_seed(1)
        draw(others, 4, 1.0, generator, skip=2)
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("k", "beta", "named"),
    [(0, 1.0, r"k=0 .*1\.\.3"), (4, 1.0, r"k=4 .*1\.\.3"), (2, -0.5, "beta="), (2, NAN, "beta=")],
)
def test_impossible_numbers_are_refused(k: int, beta: float, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        select_percentile(torch.zeros(3), k, beta, torch.Generator())
