"""Which predictions have a label, and random shares of them."""

import itertools

import pytest
import torch
from torch import Tensor

from sift_trainer.scoring.positions import label_counts, next_token_labels, scored_positions
from tests.tiny import BATCH, LENGTH, token_labels

LABELS = torch.tensor([[-100, 4, -100], [-100, -100, -100], [0, -100, 9]])


def test_the_label_of_a_causal_prediction_is_the_next_token() -> None:
    labels = torch.tensor([[5, 6, 7], [-100, 8, -100]])
    assert next_token_labels(labels).tolist() == [[6, 7, -100], [8, -100, -100]]
    assert labels.tolist() == [[5, 6, 7], [-100, 8, -100]]
    assert next_token_labels(torch.tensor([[5]])).tolist() == [[-100]]


def test_positions_row_by_row() -> None:
    positions = scored_positions(LABELS)
    assert positions.flat.tolist() == [1, 6, 8]
    assert positions.rows.tolist() == [0, 2, 2]
    assert positions.targets.tolist() == [4, 0, 9]
    assert positions.slots.tolist() == [0, 0, 1]
    assert (positions.shape, positions.per_row) == ((3, 3), 2)
    assert label_counts(LABELS).tolist() == [1, 0, 2]
    nothing = scored_positions(torch.full((2, 3), -100))
    assert (len(nothing.flat), len(nothing.targets), nothing.shape[0]) == (0, 0, 2)


def test_one_prediction_per_sample() -> None:
    labels = torch.tensor([3, -100, 0])
    for positions in (scored_positions(labels), scored_positions(labels, 0.1, torch.Generator())):
        assert positions.flat.tolist() == positions.rows.tolist() == [0, 1, 2]
        assert positions.targets.tolist() == [3, -100, 0]
    assert label_counts(labels).tolist() == [1, 0, 1]


def test_the_same_number_of_places_in_each_row() -> None:
    """Labelled ones first, in their order; then others, without a target."""
    positions = scored_positions(LABELS, per_row=2)
    assert positions.flat.tolist() == [1, 0, 3, 4, 6, 8]
    assert positions.rows.tolist() == [0, 0, 1, 1, 2, 2]
    assert positions.slots.tolist() == [0, 1, 0, 1, 0, 1]
    assert positions.targets.tolist() == [4, -100, -100, -100, 0, 9]
    assert positions.per_row == 2
    assert scored_positions(LABELS, per_row=7).per_row == 3  # a row has no more


def test_the_first_position_in_front() -> None:
    positions = scored_positions(LABELS).with_first()
    places = zip(positions.rows.tolist(), positions.slots.tolist(), strict=True)
    assert dict(zip(places, positions.flat.tolist(), strict=True)) == {
        **{(row, 0): 3 * row for row in range(3)},
        **{(0, 1): 1, (2, 1): 6, (2, 2): 8},
    }
    assert positions.laid_out(positions.flat).tolist() == [[0, 1, 0], [3, 0, 0], [6, 6, 8]]


# ---- random shares ----


def taken(
    labels: Tensor, fraction: float, seed: int, per_row: int | None = None
) -> list[list[int]]:
    """The taken columns of each row."""
    generator = torch.Generator().manual_seed(seed)
    positions = scored_positions(labels, fraction, generator, per_row)
    rows: list[list[int]] = [[] for _ in labels]
    for row, flat, target in zip(
        positions.rows.tolist(), positions.flat.tolist(), positions.targets.tolist(), strict=True
    ):
        assert flat // labels.shape[1] == row
        if target != -100:
            assert target == labels.flatten()[flat]
            rows[row].append(flat % labels.shape[1])
    return rows


@pytest.mark.parametrize("fraction", [0.01, 0.25, 0.5, 0.99])
def test_a_share_of_each_row_is_rounded_and_at_least_one(fraction: float) -> None:
    counts = (3, 0, 1, 11)
    labels = token_labels(counts)
    labelled = [{c for c in range(LENGTH) if labels[r, c] != -100} for r in range(BATCH)]
    for seed in range(20):
        rows = taken(labels, fraction, seed)
        for columns, all_of_it, count in zip(rows, labelled, counts, strict=True):
            assert len(columns) == (max(1, round(fraction * count)) if count else 0)
            assert set(columns) <= all_of_it
            assert columns == sorted(columns)
        assert taken(labels, fraction, seed, per_row=11) == rows


def test_a_draw_depends_on_its_generator_alone() -> None:
    labels = token_labels((8, 8, 8, 8))
    before = torch.get_rng_state()
    draws = [taken(labels, 0.5, seed) for seed in (3, 3, 4)]
    assert draws[0] == draws[1] != draws[2]
    assert torch.equal(torch.get_rng_state(), before)
    generator = torch.Generator().manual_seed(1)
    state = generator.get_state()
    scored_positions(labels, 1.0, generator)  # everything is taken without a draw
    assert torch.equal(generator.get_state(), state)


def test_every_subset_is_equally_likely() -> None:
    """Two of four labelled positions: six pairs, each 1/6 of 3,000 rows, give or take five standard
    deviations of sqrt(3000 * 1/6 * 5/6) = 20.4."""
    columns = [1, 4, 6, 9]
    labels = torch.full((3000, LENGTH), -100)
    labels[:, columns] = 7
    rows = taken(labels, 0.5, 0)
    counts = {pair: rows.count(list(pair)) for pair in itertools.combinations(columns, 2)}
    assert sum(counts.values()) == 3000
    assert all(abs(count - 500) < 102 for count in counts.values()), counts
