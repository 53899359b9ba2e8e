"""The rules with random samples: probabilities, weights and the last ranks."""

from collections import Counter
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from sift_trainer.scoring.criteria import UNLABELLED
from sift_trainer.selection.rules import (
    select_importance,
    select_infobatch,
    select_mixed,
    select_stratified,
    without_top,
)
from sift_trainer.selection.schedule import num_random

NAN = float("nan")
DRAWS = 3000
WEIGHTED = [select_stratified, select_importance, select_infobatch]


def mixed(
    scores: list[float], k: int, share: float, seed: int = 0, skip: int = 0
) -> tuple[int, ...]:
    ranked = without_top(torch.tensor(scores), k, skip)
    return tuple(select_mixed(ranked, k, share, torch.Generator().manual_seed(seed)).tolist())


def test_every_set_of_the_others_is_equally_likely() -> None:
    """Row 1 is chosen, two of the other four come with it: six pairs, a sixth each. Chi-square of 5
    degrees of freedom, four standard deviations above its mean, is 5 + 4 * sqrt(10)."""
    counts = Counter(mixed([0.1, 9.0, 0.3, -2.0, 0.2], 3, 2 / 3, seed) for seed in range(DRAWS))
    pairs = [tuple(sorted((1, *pair))) for pair in combinations((0, 2, 3, 4), 2)]
    assert set(counts) == set(pairs)
    expected = DRAWS / len(pairs)
    distance = sum((counts[pair] - expected) ** 2 / expected for pair in pairs)
    assert distance < 5 + 4 * 10**0.5


def test_samples_without_a_score_are_drawn_last_and_the_skipped_top_not_at_all() -> None:
    for seed in range(50):
        assert mixed([NAN, 5.0, UNLABELLED, 1.0, 2.0], 3, 2 / 3, seed) == (1, 3, 4)
        assert mixed([NAN, 5.0, UNLABELLED, 1.0, 2.0], 4, 3 / 4, seed) == (1, 2, 3, 4)
    drawn = {mixed([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 2, 0.5, seed, skip=2) for seed in range(100)}
    assert drawn == {(2, 3), (2, 4), (2, 5)}


@pytest.mark.parametrize(("kept", "share", "expected"), [(8, 0.5, 4), (8, 0.25, 2), (10, 0.3, 3)])
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


# ---- weights ----


def drawn(
    rule: Callable[..., Any], scores: Tensor, k: int, share: float = 0.5
) -> tuple[Tensor, Tensor]:
    """How often each sample was drawn, and its mean weight if it was: (B,) each."""
    times, weights = torch.zeros(len(scores)), torch.zeros(len(scores))
    generator = torch.Generator().manual_seed(1)
    for _ in range(DRAWS):
        rows, found = rule(scores, k, share, generator)
        assert len(set(rows.tolist())) == k
        times[rows] += 1
        weights[rows] += found.float()
    return times / DRAWS, weights / DRAWS


@pytest.mark.parametrize("rule", WEIGHTED)
@pytest.mark.parametrize("scores", [torch.tensor([3.0, 0.1, 0.5, 8.0, 1.0, 0.0, 2.0, 0.2])])
def test_the_expected_loss_is_the_mean_over_all_candidates(rule: Any, scores: Tensor) -> None:
    """So each sample's expected weight is k / B: of 3000 draws within five standard errors, with
    weights that are at most 4."""
    _, weights = drawn(rule, scores, 4)
    assert (weights - 0.5).abs().max() < 5 * (4 * 0.5 / DRAWS) ** 0.5


def test_importance_probabilities_are_the_capped_proportions() -> None:
    """By hand: (1 - m) s / mean + m with m = 1/2 is .75 .25, .75, 4.25, 1, ...; the largest would
    be drawn more than once, so it is certain, and the others share the rest."""
    scores = torch.tensor([1.0, 0.0, 1.0, 15.0, 1.0, 2.0, 2.0, 2.0])
    chances = 0.5 * scores / scores.mean() + 0.5
    expected = 3 * chances / (chances.sum() - chances[3])
    expected[3] = 1.0
    times, _ = drawn(select_importance, scores, 4)
    assert expected.max() == 1
    assert (times - expected).abs().max() < 5 * (0.25 / DRAWS) ** 0.5


def test_importance_weights_are_at_most_one_over_the_share() -> None:
    scores = torch.rand(32, generator=torch.Generator().manual_seed(3)) ** 8
    for seed in range(200):
        _, weights = select_importance(scores, 16, 0.25, torch.Generator().manual_seed(seed))
        assert weights.max() <= 4 + 1e-5


def test_infobatch_is_the_papers_rule_at_three_quarters() -> None:
    """Half of the samples are below the mean: they are skipped with probability 1/2 and weigh
    twice as much. The weights are k / B = 3/4 of InfoBatch's, whose batches shrink instead."""
    scores = torch.tensor([0.0, 10.0, 1.0, 12.0, 2.0, 11.0, 3.0, 9.0])
    times, _ = drawn(select_infobatch, scores, 6)
    assert (times - torch.tensor([0.5, 1.0] * 4)).abs().max() < 5 * (0.25 / DRAWS) ** 0.5
    rows, weights = select_infobatch(scores, 6, 0.5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(weights / 0.75, torch.where(rows % 2 == 0, 2.0, 1.0))


def test_stratified_weights_are_those_of_the_strata() -> None:
    """Of 8 candidates 4 are kept: 2 hard ones stand for themselves, 2 random ones for 6."""
    scores = torch.arange(8.0)
    rows, weights = select_stratified(scores, 4, 0.5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(weights, torch.where(rows >= 6, 1.0, 3.0) / 2)


@pytest.mark.parametrize("rule", WEIGHTED)
def test_unscored_samples_come_last(rule: Any) -> None:
    scores = torch.tensor([NAN, 1.0, UNLABELLED, 2.0, 0.5, float("inf")])
    for seed in range(100):
        rows, weights = rule(scores, 3, 0.5, torch.Generator().manual_seed(seed))
        assert sorted(rows.tolist()) == [1, 3, 4]
        torch.testing.assert_close(weights, torch.ones(3))


@pytest.mark.parametrize("rule", WEIGHTED)
@pytest.mark.parametrize("scores", [torch.zeros(6), torch.full((6,), 2.5)])
def test_equal_scores_are_a_uniform_draw(rule: Any, scores: Tensor) -> None:
    times, weights = drawn(rule, scores, 3)
    if rule is not select_stratified:  # whose hard ones are then the first
        assert (times - 0.5).abs().max() < 5 * (0.25 / DRAWS) ** 0.5
    assert (weights - 0.5).abs().max() < 5 * (2 * 0.5 / DRAWS) ** 0.5
