"""The percentile draw: its probabilities by enumeration, what it never draws, its seeds."""

from collections import Counter
from itertools import permutations
from math import sqrt, ulp
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainingArguments

from sift_trainer import SiftTrainer, select_percentile, select_top_k
from sift_trainer.scoring.criteria import UNLABELLED
from sift_trainer.selection.choosing import without_top
from tests.training import RecordingTrainer, Rows, arguments, bert

NAN, INF = float("nan"), float("inf")
DRAWS = 4000


def draw(scores: Tensor, k: int, beta: float, seed: int, skip: int = 0) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(select_percentile(without_top(scores, k, skip), k, beta, generator).tolist())


def drawn(scores: list[float], k: int, beta: float, skip: int = 0) -> Counter[tuple[int, ...]]:
    """Which rows came out of how many of `DRAWS` draws."""
    tensor = torch.tensor(scores)
    return Counter(draw(tensor, k, beta, seed, skip) for seed in range(DRAWS))


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


def assert_agree(counts: Counter[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> None:
    """Chi-square within four standard deviations of its mean, and nothing impossible."""
    assert set(counts) <= set(expected)
    assert sum(expected.values()) == pytest.approx(1)
    freedom = len(expected) - 1
    distance = sum(
        (counts[rows] - DRAWS * chance) ** 2 / (DRAWS * chance) for rows, chance in expected.items()
    )
    assert distance < freedom + 4 * sqrt(2 * freedom), (counts, expected)


CASES = {
    # scores, k, beta, skip, percentiles
    "two of four": ([0.4, 9.0, -3.0, 0.5], 2, 1.0, 0, [2 / 4, 4 / 4, 1 / 4, 3 / 4]),
    "one of four, squared": ([0.4, 9.0, -3.0, 0.5], 1, 2.0, 0, [2 / 4, 4 / 4, 1 / 4, 3 / 4]),
    "three of five, rooted": ([1.0, 2.0, 5.0, 4.0, 3.0], 3, 0.5, 0, [0.2, 0.4, 1.0, 0.8, 0.6]),
    "equals have one percentile": ([2.0, 1.0, 2.0, 3.0], 2, 1.0, 0, [3 / 4, 1 / 4, 3 / 4, 1]),
    "all equal": ([7.0] * 5, 2, 3.0, 0, [1.0] * 5),
    "beta 0 is uniform": ([1.0, 2.0, 3.0, 4.0, 100.0], 2, 0.0, 0, [1.0] * 5),
    "without the highest": ([1.0, 2.0, 5.0, 4.0, 3.0], 2, 1.0, 2, [0.2, 0.4, 0, 0, 0.6]),
    "of those with a score": (
        [NAN, 3.0, UNLABELLED, 1.0, INF, 2.0, -INF],
        2,
        1.0,
        0,
        [0, 3 / 3, 0, 1 / 3, 0, 2 / 3, 0],
    ),
    "of those with a score, without the highest": (
        [NAN, 3.0, UNLABELLED, 1.0, 4.0, 2.0],
        2,
        1.0,
        1,
        [0, 3 / 4, 0, 1 / 4, 0, 2 / 4],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_sets_are_drawn_as_one_after_the_other(case: str) -> None:
    scores, k, beta, skip, percentiles = CASES[case]
    weights = [percentile**beta if percentile else 0.0 for percentile in percentiles]
    assert_agree(drawn(scores, k, beta, skip), chances(weights, k))


def test_the_agreement_would_see_another_exponent() -> None:
    scores, k, beta, _, percentiles = CASES["two of four"]
    with pytest.raises(AssertionError):
        assert_agree(drawn(scores, k, beta), chances([p**1.3 for p in percentiles], k))


@pytest.mark.parametrize(("beta", "highest"), [(1.0, 0.79), (2.0, 0.95)])
def test_at_its_upper_end_the_draw_is_flatter_than_percentile_to_the_beta(
    beta: float, highest: float
) -> None:
    """In the limit of many candidates half are kept where the mean of 1 - exp(-c u) is 1/2, u being
    uniform and beta 1: c = 1.594, so that the highest is kept with 1 - exp(-c) = 0.797."""
    scores = torch.arange(64.0)
    kept = sum(63 in draw(scores, 32, beta, seed) for seed in range(DRAWS))
    assert kept / DRAWS == pytest.approx(highest, abs=0.02)


@pytest.mark.parametrize("beta", [1e3, 1e6])
def test_a_large_beta_is_the_largest_k(beta: float) -> None:
    scores = torch.tensor([0.3, 2.0, NAN, 1.0, UNLABELLED, 5.0, -4.0])
    for seed in range(50):
        for k, skip in ((1, 0), (2, 0), (5, 0), (6, 0), (7, 0), (1, 1), (2, 3), (3, 4)):
            expected = tuple(select_top_k(without_top(scores, k, skip), k).tolist())
            assert draw(scores, k, beta, seed, skip) == expected


def test_more_than_have_a_score_are_filled_as_the_largest_k_are() -> None:
    """First all with a score, then those without labels, then the broken, in their order."""
    scores = torch.tensor([NAN, 3.0, UNLABELLED, 1.0, INF, UNLABELLED, 2.0])
    for seed in range(50):
        for beta in (0.0, 1.0, 4.0):
            assert draw(scores, 3, beta, seed, skip=3) == (1, 3, 6)
            assert draw(scores, 4, beta, seed, skip=3) == (1, 2, 3, 6)
            assert draw(scores, 6, beta, seed) == (0, 1, 2, 3, 5, 6)
    for bad in (NAN, INF, -INF, UNLABELLED):
        assert draw(torch.full((5,), bad), 3, 1.0, seed=0) == (0, 1, 2)


def test_the_ends_of_the_generators_range_stay_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """0, whose noise would be infinite, and the largest number below 1."""
    ends = torch.tensor([0.0, 1 - ulp(0.5), 0.5, 0.0], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *args, **kwargs: ends)
    scores = torch.tensor([1.0, 1.0, NAN, 1.0])
    assert [draw(scores, k, 1.0, seed=0) for k in (1, 2, 3)] == [(1,), (0, 1), (0, 1, 3)]


def test_a_draw_is_its_generators_alone() -> None:
    scores = torch.randn(64, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    first = draw(scores, 32, 1.0, seed=3)
    torch.rand(5)
    assert draw(scores, 32, 1.0, seed=3) == first
    assert len({draw(scores, 32, 1.0, seed) for seed in range(20)}) == 20
    torch.set_rng_state(before)
    select_percentile(scores, 32, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_how_much_is_taken_from_the_generator_does_not_depend_on_the_scores() -> None:
    states = []
    for scores in (torch.ones(9), torch.full((9,), NAN), torch.arange(9.0)):
        generator = torch.Generator().manual_seed(1)
        select_percentile(without_top(scores, 4, 2), 4, 1.0, generator)
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("k", "beta", "named"),
    [
        (0, 1.0, r"k=0 must be in 1\.\.3"),
        (4, 1.0, r"k=4 must be in 1\.\.3"),
        *[(2, beta, f"beta={beta} must be in") for beta in (-0.5, INF, NAN)],
    ],
)
def test_impossible_numbers_are_refused(k: int, beta: float, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        select_percentile(torch.zeros(3), k, beta, torch.Generator())


# ---- in a run ----


def test_processes_draw_differently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As do steps and micro-batches; the scores, here the same, have no part in it."""
    trainer = SiftTrainer(bert(), arguments(tmp_path), train_dataset=Rows(48))
    scores, rows = torch.arange(64.0), []
    for process in range(4):
        monkeypatch.setattr(TrainingArguments, "process_index", process)
        for step in range(3):
            trainer.state.global_step = step
            rows += [
                tuple(select_percentile(scores, 32, 1.0, trainer._generator(index)).tolist())
                for index in range(2)
            ]
    assert len(set(rows)) == len(rows) == 4 * 3 * 2


def test_a_run_draws_and_disturbs_no_other_randomness(tmp_path: Path) -> None:
    """The same batches and the same random state as choosing the largest. Without dropout, which
    draws for as many positions as the kept rows have labels."""
    calm = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    runs, states = [], []
    for selector in ("top_k", "percentile", "percentile"):
        args = arguments(tmp_path, sift_selector=selector, max_steps=8)
        runs.append(RecordingTrainer(bert(**calm), args, train_dataset=Rows(48)))
        runs[-1].train()
        states.append(torch.get_rng_state())
    greedy, first, again = runs
    assert greedy.candidates == first.candidates
    assert torch.equal(states[0], states[1])
    assert greedy.scores[0] == first.scores[0]
    assert greedy.kept != first.kept
    assert (first.kept, first.losses) == (again.kept, again.losses)
    assert [len(kept) for kept in first.kept] == [4] * 8


@pytest.mark.parametrize(
    "settings", [{}, {"sift_selector": "percentile", "sift_beta": 1e6}], ids=str
)
def test_metrics_of_kept_and_dropped_are_of_all_candidates(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """The highest quarter is left out, and counts among the dropped."""
    args = arguments(tmp_path, sift_skip_top=0.25, max_steps=3, **settings)
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(48))
    trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    for log, scores, candidates, kept in zip(
        logs, trainer.scores, trainer.candidates, trainer.kept, strict=True
    ):
        assert scores is not None
        ranked = sorted(zip(scores, candidates, strict=True), reverse=True)
        chosen, others = ranked[2:6], ranked[:2] + ranked[6:]
        assert sorted(kept) == sorted(row for _, row in chosen)
        assert log["sift/kept_score"] == pytest.approx(sum(s for s, _ in chosen) / 4)
        assert log["sift/dropped_score"] == pytest.approx(sum(s for s, _ in others) / 4)
