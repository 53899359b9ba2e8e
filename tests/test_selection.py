"""When to sift, how many rows to draw and keep, and which ones win."""

import itertools
import random

import pytest
import torch

from sift_trainer import select_top_k
from sift_trainer.scoring.criteria import UNLABELLED
from sift_trainer.selection.choosing import is_nonfinite, without_top
from sift_trainer.selection.schedule import (
    num_candidates,
    num_kept,
    num_skipped,
    should_sift,
    steps_of,
)

NAN, INF = float("nan"), float("inf")


def top(scores: torch.Tensor, k: int, skip: int) -> list[int]:
    """The k largest after the ``skip`` largest."""
    return select_top_k(without_top(scores, k, skip), k).tolist()


def sifted(total: int, warmup: float = 0, cooldown: float = 0, interval: int = 1) -> list[int]:
    return [step for step in range(total) if should_sift(step, total, warmup, cooldown, interval)]


def test_the_papers_schedule() -> None:
    """No sifting in the first 20K of 800K steps (section 7.1), which are its share 0.025."""
    for warmup in (20_000, 0.025):
        assert not should_sift(19_999, 800_000, warmup, 0, 1)
        assert should_sift(20_000, 800_000, warmup, 0, 1)
        assert should_sift(799_999, 800_000, warmup, 0, 1)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"warmup": 3}, [3, 4, 5, 6, 7, 8, 9]),
        ({"warmup": 0.25}, [2, 3, 4, 5, 6, 7, 8, 9]),  # 2.5 steps are rounded down
        ({"cooldown": 4}, [0, 1, 2, 3, 4, 5]),
        ({"cooldown": 0.35}, [0, 1, 2, 3, 4, 5, 6]),
        ({"interval": 3}, [0, 3, 6, 9]),
        ({"warmup": 2, "interval": 3}, [2, 5, 8]),  # counted from the first sifting step
        ({"warmup": 0.2, "cooldown": 2, "interval": 5}, [2, 7]),
        ({"warmup": 1}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),  # one step, not all of them
        ({"warmup": 8, "cooldown": 2}, []),
    ],
)
def test_the_schedule_of_ten_steps(settings: dict[str, float], steps: list[int]) -> None:
    assert sifted(10, **settings) == steps  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "total", "steps"),
    [
        (0, 100, 0),
        (0.025, 800_000, 20_000),
        (0.025, 100, 2),
        (0.07, 100, 7),
        (0.29, 100, 29),  # 28.999999999999996 in floating point
        (0.55, 100, 55),
        (1, 100, 1),
        (250, 100, 250),
        (0.001, 10, 0),
    ],
)
def test_steps_or_a_share_of_all_rounded_down(value: float, total: int, steps: int) -> None:
    assert steps_of(value, total) == steps


def test_whole_percentages_of_a_hundred_steps_are_themselves() -> None:
    assert [steps_of(percent / 100, 100) for percent in range(100)] == list(range(100))


def test_what_is_drawn_for_a_batch_is_kept_as_that_batch() -> None:
    ratios = [percent / 100 for percent in range(5, 101)] + [1 / 3, 2 / 3, 1 / 7]
    for batch, ratio in itertools.product(range(1, 65), ratios):
        drawn = num_candidates(batch, ratio)
        assert drawn >= batch
        assert abs(drawn - batch / ratio) <= 0.5
        assert num_kept(drawn, ratio) == batch


def test_the_papers_numbers() -> None:
    assert (num_candidates(32, 0.5), num_kept(64, 0.5)) == (64, 32)
    assert (num_candidates(125, 0.5), num_kept(250, 0.5)) == (250, 125)


def test_a_short_last_batch_keeps_its_share_and_never_nothing() -> None:
    assert [num_kept(rows, 0.25) for rows in (1, 2, 3, 5, 8, 11)] == [1, 1, 1, 1, 2, 3]


@pytest.mark.parametrize(
    ("candidates", "kept", "share", "skipped"),
    [
        (64, 32, 0.0, 0),
        (64, 32, 0.2, 13),  # 12.8 are rounded
        (64, 32, 0.5, 32),
        (10, 9, 0.1, 1),
        (3, 2, 0.5, 1),  # 1.5 would be 2, and leave one of the two that are kept
        (1, 1, 0.5, 0),
    ],
)
def test_a_share_is_left_out_as_far_as_enough_remain(
    candidates: int, kept: int, share: float, skipped: int
) -> None:
    assert num_skipped(candidates, kept, share) == skipped


def test_the_largest_win_and_come_in_the_order_of_the_batch() -> None:
    scores = torch.tensor([0.1, 5.0, -2.0, 3.0, 4.0])
    assert select_top_k(scores, 1).tolist() == [1]
    assert select_top_k(scores, 2).tolist() == [1, 4]
    assert select_top_k(scores, 3).tolist() == [1, 3, 4]
    assert select_top_k(scores, 4).tolist() == [0, 1, 3, 4]
    assert select_top_k(scores, 5).tolist() == [0, 1, 2, 3, 4]
    assert select_top_k(scores, 2).dtype is torch.int64


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_is_not_finite_ranks_last(bad: float) -> None:
    scores = torch.tensor([bad, -1e30, 2.0, bad, 1.0])
    assert select_top_k(scores, 2).tolist() == [2, 4]
    assert select_top_k(scores, 3).tolist() == [1, 2, 4]
    assert select_top_k(scores, 4).tolist() == [0, 1, 2, 4]
    assert is_nonfinite(scores).tolist() == [True, False, False, True, False]


def test_an_unlabelled_row_ranks_between_the_finite_and_the_broken() -> None:
    scores = torch.tensor([INF, UNLABELLED, NAN, -1e38, -INF])
    assert select_top_k(scores, 1).tolist() == [3]
    assert select_top_k(scores, 2).tolist() == [1, 3]
    assert select_top_k(scores, 3).tolist() == [0, 1, 3]


def test_a_batch_without_a_finite_score_keeps_its_first_rows() -> None:
    for scores in ([NAN] * 5, [-INF, INF, NAN, INF, -INF], [INF] * 5):
        for k in range(1, 6):
            assert select_top_k(torch.tensor(scores), k).tolist() == list(range(k))


def test_among_equals_the_first_rows_win() -> None:
    assert select_top_k(torch.ones(100), 7).tolist() == list(range(7))
    scores = torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    assert select_top_k(scores, 2).tolist() == [1, 3]
    assert select_top_k(scores, 4).tolist() == [0, 1, 3, 5]


def test_the_top_that_is_left_out() -> None:
    scores = torch.tensor([0.1, 5.0, -2.0, 3.0, 4.0, NAN])
    assert top(scores, 2, 1) == [3, 4]
    assert top(scores, 2, 2) == [0, 3]
    assert top(scores, 2, 3) == [0, 2]
    assert top(scores, 3, 1) == [0, 3, 4]


def test_of_equals_the_first_rows_are_left_out() -> None:
    assert top(torch.ones(6), 2, 3) == [3, 4]
    scores = torch.tensor([1.0, 2.0, 2.0, 1.0, 2.0, 1.0])
    assert top(scores, 3, 2) == [0, 3, 4]


@pytest.mark.parametrize("low", [NAN, INF, -INF, UNLABELLED])
def test_a_row_without_a_score_never_replaces_one_that_was_left_out(low: float) -> None:
    """Five rows have a score. Three are to be kept, so that no more than two can be left out."""
    scores = torch.tensor([low, 3.0, 5.0, low, 1.0, 4.0, 2.0, low])
    assert top(scores, 3, 1) == [1, 5, 6]
    for skip in (2, 3, 5):
        assert top(scores, 3, skip) == [1, 4, 6]
    assert top(scores, 5, 3) == [1, 2, 4, 5, 6]
    assert top(scores, 6, 2) == [0, 1, 2, 4, 5, 6]


def test_against_a_sort_of_random_scores_by_hand() -> None:
    draw = random.Random(0)
    for _ in range(300):
        size = draw.randint(1, 20)
        scores = [draw.choice([NAN, INF, -INF, UNLABELLED, 0.0, 1.0, draw.randint(-9, 9) / 4])
                  for _ in range(size)]  # fmt: skip
        k = draw.randint(1, size)

        def rank(row: int, scores: list[float] = scores) -> tuple[bool, float, int]:
            broken = scores[row] != scores[row] or abs(scores[row]) == INF
            return broken, 0.0 if broken else -scores[row], row

        skip = draw.randint(0, size - k)
        usable = [score for score in scores if abs(score) < INF and score > UNLABELLED]
        left_out = min(skip, max(0, len(usable) - k))
        expected = sorted(sorted(range(size), key=rank)[left_out : left_out + k])
        found = top(torch.tensor(scores), k, skip)
        assert found == expected, (scores, k, skip)


@pytest.mark.parametrize("k", [0, -1, 4])
def test_more_or_fewer_rows_than_there_are_cannot_be_kept(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k={k} must be in 1\.\.3, the number of scores"):
        select_top_k(torch.zeros(3), k)


def test_the_scores_are_left_as_they_are() -> None:
    scores = torch.tensor([INF, 1.0, 2.0])
    select_top_k(scores, 2)
    without_top(scores, 1, 1)
    assert scores.tolist() == [INF, 1.0, 2.0]
