"""When to sift, how many samples to draw and keep, and which ones win."""

import itertools
import random

import pytest
import torch

from sift_trainer import select_top_k
from sift_trainer.scoring.criteria import UNLABELLED
from sift_trainer.selection.rules import is_nonfinite, without_top
from sift_trainer.selection.schedule import (
    num_candidates,
    num_kept,
    should_sift,
    steps_of,
)

NAN, INF = float("nan"), float("inf")


def top(scores: list[float], k: int, skip: int = 0) -> list[int]:
    """The k largest after the ``skip`` largest."""
    return select_top_k(without_top(torch.tensor(scores), k, skip), k).tolist()


# ---- when, and how many ----


def test_the_papers_schedule_and_numbers() -> None:
    """No sifting in the first 20K of 800K steps (section 7.1), which are its share 0.025."""
    for warmup in (20_000, 0.025):
        assert not should_sift(19_999, 800_000, warmup, 0, 1)
        assert should_sift(20_000, 800_000, warmup, 0, 1)
        assert should_sift(799_999, 800_000, warmup, 0, 1)
    assert (num_candidates(125, 0.5), num_kept(250, 0.5)) == (250, 125)


@pytest.mark.parametrize(
    ("warmup", "cooldown", "interval", "steps"),
    [
        (0, 0, 1, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (3, 0, 1, [3, 4, 5, 6, 7, 8, 9]),
        (0.25, 0, 1, [2, 3, 4, 5, 6, 7, 8, 9]),  # 2.5 steps are rounded down
        (0, 4, 1, [0, 1, 2, 3, 4, 5]),
        (0, 0.35, 1, [0, 1, 2, 3, 4, 5, 6]),
        (2, 0, 3, [2, 5, 8]),  # counted from the first sifting step
        (0.2, 2, 5, [2, 7]),
        (1, 0, 1, [1, 2, 3, 4, 5, 6, 7, 8, 9]),  # one step, not all of them
        (8, 2, 1, []),
    ],
)
def test_the_schedule_of_ten_steps(
    warmup: float, cooldown: float, interval: int, steps: list[int]
) -> None:
    found = [step for step in range(10) if should_sift(step, 10, warmup, cooldown, interval)]
    assert found == steps


def test_steps_or_a_share_of_all_rounded_down() -> None:
    """0.29 * 100 is 28.999999999999996 in floating point."""
    assert [steps_of(percent / 100, 100) for percent in range(100)] == list(range(100))
    assert [steps_of(value, 100) for value in (0.025, 1, 250)] == [2, 1, 250]


def test_the_candidates_of_a_batch_are_narrowed_to_that_batch() -> None:
    ratios = [percent / 100 for percent in range(5, 101)] + [1 / 3, 2 / 3, 1 / 7]
    for batch, ratio in itertools.product(range(1, 65), ratios):
        drawn = num_candidates(batch, ratio)
        assert drawn >= batch
        assert abs(drawn - batch / ratio) <= 0.5
        assert num_kept(drawn, ratio) == batch


def test_a_short_last_batch_keeps_its_share_and_never_nothing() -> None:
    assert [num_kept(rows, 0.25) for rows in (1, 2, 3, 5, 8, 11)] == [1, 1, 1, 1, 2, 3]


# ---- which ----


def test_the_largest_win_and_come_in_the_order_of_the_batch() -> None:
    scores = [0.1, 5.0, -2.0, 3.0, 4.0, NAN]
    assert [top(scores, k) for k in (1, 2, 3)] == [[1], [1, 4], [1, 3, 4]]
    assert [top(scores, 2, skip) for skip in (1, 2, 3)] == [[3, 4], [0, 3], [0, 2]]
    assert select_top_k(torch.tensor(scores), 2).dtype is torch.int64


def test_among_equals_the_first_win_and_the_first_are_skipped() -> None:
    assert top([1.0] * 100, 7) == list(range(7))
    assert top([1.0, 2.0, 1.0, 2.0, 1.0, 2.0], 4) == [0, 1, 3, 5]
    assert top([1.0, 2.0, 2.0, 1.0, 2.0, 1.0], 3, skip=2) == [0, 3, 4]


def test_unlabelled_samples_rank_above_the_non_finite_only() -> None:
    scores = [INF, UNLABELLED, NAN, -1e38, -INF]
    assert [top(scores, k) for k in (1, 2, 3)] == [[3], [1, 3], [0, 1, 3]]
    assert is_nonfinite(torch.tensor(scores)).tolist() == [True, False, True, False, True]
    for k in range(1, 6):  # without a finite score the first are kept
        assert top([-INF, INF, NAN, INF, -INF], k) == list(range(k))


@pytest.mark.parametrize("low", [NAN, INF, UNLABELLED])
def test_a_sample_without_a_score_never_replaces_a_skipped_one(low: float) -> None:
    """Five rows have a score. Three are kept, so that at most two can be skipped."""
    scores = [low, 3.0, 5.0, low, 1.0, 4.0, 2.0, low]
    assert top(scores, 3, 1) == [1, 5, 6]
    for skip in (2, 3, 5):
        assert top(scores, 3, skip) == [1, 4, 6]
    assert top(scores, 6, 2) == [0, 1, 2, 4, 5, 6]


def test_against_a_sort_of_random_scores_by_hand() -> None:
    draw = random.Random(0)
    for _ in range(300):
        size = draw.randint(1, 20)
        values = [NAN, INF, -INF, UNLABELLED, 0.0, 1.0, draw.randint(-9, 9) / 4]
        scores = [draw.choice(values) for _ in range(size)]
        k = draw.randint(1, size)

        def rank(row: int, scores: list[float] = scores) -> tuple[bool, float, int]:
            broken = scores[row] != scores[row] or abs(scores[row]) == INF
            return broken, 0.0 if broken else -scores[row], row

        skip = draw.randint(0, size - k)
        usable = [score for score in scores if abs(score) < INF and score > UNLABELLED]
        skipped = min(skip, max(0, len(usable) - k))
        expected = sorted(sorted(range(size), key=rank)[skipped : skipped + k])
        assert top(scores, k, skip) == expected, (scores, k, skip)


@pytest.mark.parametrize("k", [0, -1, 4])
def test_k_outside_of_the_batch_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k={k} .*1\.\.3"):
        select_top_k(torch.zeros(3), k)
