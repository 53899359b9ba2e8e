"""Samples kept at random beside those chosen by score: their probabilities, and the last ranks."""

from collections import Counter
from itertools import combinations

import pytest
import torch

from sift_trainer.scoring.criteria import UNLABELLED
from sift_trainer.selection.choosing import add_random, without_top
from sift_trainer.selection.schedule import num_random

NAN = float("nan")
DRAWS = 3000


def draw(
    scores: list[float], chosen: list[int], k: int, seed: int = 0, skip: int = 0
) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    ranked = without_top(torch.tensor(scores), k, skip)
    return tuple(add_random(ranked, torch.tensor(chosen), k, generator).tolist())


def test_every_set_of_the_others_is_equally_likely() -> None:
    """Row 1 is chosen, two of the other four come with it: six pairs, a sixth each. Chi-square of 5
    degrees of freedom, four standard deviations above its mean, is 5 + 4 * sqrt(10)."""
    counts = Counter(draw([0.1, 9.0, 0.3, -2.0, 0.2], [1], 3, seed) for seed in range(DRAWS))
    pairs = [tuple(sorted((1, *pair))) for pair in combinations((0, 2, 3, 4), 2)]
    assert set(counts) == set(pairs)
    expected = DRAWS / len(pairs)
    distance = sum((counts[pair] - expected) ** 2 / expected for pair in pairs)
    assert distance < 5 + 4 * 10**0.5


def test_samples_without_a_score_are_drawn_last_and_the_skipped_top_not_at_all() -> None:
    for seed in range(50):
        assert draw([NAN, 5.0, UNLABELLED, 1.0, 2.0], [1], 3, seed) == (1, 3, 4)
        assert draw([NAN, 5.0, UNLABELLED, 1.0, 2.0], [1], 4, seed) == (1, 2, 3, 4)
    drawn = {draw([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], [2], 2, seed, skip=2) for seed in range(100)}
    assert drawn == {(2, 3), (2, 4), (2, 5)}


@pytest.mark.parametrize(("kept", "share", "expected"), [(8, 0.5, 4), (8, 0.0, 0), (10, 0.3, 3)])
def test_a_whole_number_of_random_samples_takes_no_draw(
    kept: int, share: float, expected: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert num_random(kept, share, generator) == expected
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(("kept", "share"), [(1, 0.5), (3, 0.5), (8, 0.99), (4, 0.1)])
def test_a_share_is_exact_in_the_mean(kept: int, share: float) -> None:
    """Of a Bernoulli draw the mean of 3000 is within four standard errors."""
    generator = torch.Generator().manual_seed(0)
    found = [num_random(kept, share, generator) for _ in range(DRAWS)]
    assert set(found) == {int(kept * share), int(kept * share) + 1}
    assert abs(sum(found) / DRAWS - kept * share) < 4 * (0.25 / DRAWS) ** 0.5
