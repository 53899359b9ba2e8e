"""Rows kept at random beside those chosen by score: their probabilities, and what is not drawn."""

from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
import torch

from sift_trainer.scoring.criteria import UNLABELLED
from sift_trainer.selection.choosing import add_random, select_percentile, without_top
from sift_trainer.selection.schedule import num_random
from tests.training import RecordingTrainer, Rows, arguments, bert

NAN = float("nan")
DRAWS = 3000


def draw(
    scores: list[float], chosen: list[int], k: int, seed: int = 0, skip: int = 0
) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    found = add_random(
        without_top(torch.tensor(scores), k, skip), torch.tensor(chosen), k, generator
    )
    return tuple(found.tolist())


def test_every_set_of_the_others_is_as_likely() -> None:
    """Row 1 is chosen, two of the other four come with it: six pairs, a sixth each. Chi-square of 5
    degrees of freedom, four standard deviations above its mean, is 5 + 4 * sqrt(10)."""
    counts = Counter(draw([0.1, 9.0, 0.3, -2.0, 0.2], [1], 3, seed) for seed in range(DRAWS))
    pairs = [tuple(sorted((1, *pair))) for pair in combinations((0, 2, 3, 4), 2)]
    assert set(counts) == set(pairs)
    expected = DRAWS / len(pairs)
    distance = sum((counts[pair] - expected) ** 2 / expected for pair in pairs)
    assert distance < 5 + 4 * 10**0.5


def test_a_draw_is_a_function_of_its_seed_and_takes_as_many_numbers_whatever_the_scores() -> None:
    first, second = (torch.Generator().manual_seed(3) for _ in range(2))
    add_random(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2]), 2, first)
    add_random(torch.tensor([NAN, UNLABELLED, 3.0]), torch.tensor([2]), 2, second)
    assert torch.equal(first.get_state(), second.get_state())


def test_what_ranks_last_is_drawn_last() -> None:
    """Rows without a score, and non-finite scores after these."""
    scores = [NAN, 5.0, UNLABELLED, 1.0, 2.0]
    for seed in range(50):
        assert draw(scores, [1], 3, seed) == (1, 3, 4)
        assert draw(scores, [1], 4, seed) == (1, 2, 3, 4)


def test_what_is_left_out_at_the_top_is_not_drawn_either() -> None:
    """Of 6, 5, 4, 3, 2, 1 the first two are left out, and 4 was chosen."""
    drawn = {draw([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], [2], 2, seed, skip=2) for seed in range(100)}
    assert drawn == {(2, 3), (2, 4), (2, 5)}


@pytest.mark.parametrize(("kept", "share", "expected"), [(8, 0.5, 4), (8, 0.0, 0), (10, 0.3, 3)])
def test_a_whole_number_of_rows_takes_no_draw(kept: int, share: float, expected: int) -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert num_random(kept, share, generator) == expected
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(("kept", "share"), [(1, 0.5), (3, 0.5), (8, 0.99), (4, 0.1)])
def test_a_share_is_kept_in_the_mean(kept: int, share: float) -> None:
    """Of a Bernoulli draw the mean of 3000 is within four standard errors."""
    generator = torch.Generator().manual_seed(0)
    found = [num_random(kept, share, generator) for _ in range(DRAWS)]
    assert set(found) == {int(kept * share), int(kept * share) + 1}
    error = (0.25 / DRAWS) ** 0.5
    assert abs(sum(found) / DRAWS - kept * share) < 4 * error


def test_a_batch_of_one_row_sifts_by_default(tmp_path: Path) -> None:
    """One row of two: the one with the larger score, or either of them."""
    args = arguments(tmp_path, sift_random_share=0.5, per_device_train_batch_size=1, max_steps=24)
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(48))
    trainer.train()
    best = 0
    for scores, candidates, kept in zip(
        trainer.scores, trainer.candidates, trainer.kept, strict=True
    ):
        assert scores is not None
        assert len(scores) == 2
        best += candidates.index(kept[0]) == scores.index(max(scores))
    assert 12 < best < 24


def test_a_step_keeps_the_best_by_score_and_as_many_others(tmp_path: Path) -> None:
    """Of eight candidates four are kept: the two with the largest scores, and two of the rest."""
    args = arguments(tmp_path, sift_random_share=0.5, max_steps=12)
    runs = []
    for _ in range(2):
        trainer = RecordingTrainer(bert(), args, train_dataset=Rows(96))
        trainer.train()
        runs.append(trainer)
    first, again = runs
    assert first.kept == again.kept
    drawn = Counter[int]()
    for scores, candidates, kept in zip(first.scores, first.candidates, first.kept, strict=True):
        assert scores is not None
        order = sorted(range(8), key=lambda place: -scores[place])
        places = {candidates.index(row) for row in kept}
        assert len(places) == 4
        assert set(order[:2]) <= places
        drawn.update(order.index(place) for place in places - set(order[:2]))
    assert sum(drawn.values()) == 24
    assert len(drawn) > 4  # of six ranks


def test_the_percentile_draw_leaves_room_for_it(tmp_path: Path) -> None:
    """At a huge exponent it is the top of the scores, two of four then."""
    settings = {"sift_selector": "percentile", "sift_beta": 1e6, "sift_random_share": 0.5}
    args = arguments(tmp_path, max_steps=4, **settings)
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(48))
    trainer.train()
    for scores, candidates, kept in zip(
        trainer.scores, trainer.candidates, trainer.kept, strict=True
    ):
        assert scores is not None
        top = select_percentile(torch.tensor(scores), 2, 1e6, torch.Generator()).tolist()
        assert {candidates[place] for place in top} < set(kept)
        assert len(kept) == 4
