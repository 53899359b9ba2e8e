"""Theorems 5.7, 5.8, 5.14 and Corollary 5.10 by hand; test_greedy_sgd.py has the runs."""

import math

import pytest

from sift_trainer.reproduction.theory.bounds import (
    approximate_greedy_sgd_bound,
    crossing_loss,
    crossing_step,
    greedy_sgd_bound,
    greedy_sgd_floor,
    sgd_bound,
)

STEPS: dict[str, float] = {"initial_distance": 3.0, "learning_rate": 0.1, "smoothness": 2.0}
PAIR: dict[str, float] = {"loss_ratio": 1.5, "max_loss_at_minimum": 0.6}
GREEDY = {**STEPS, **PAIR}
SGD = {**STEPS, "minimum_loss": 0.2}


def test_bounds_by_hand() -> None:
    """eta L = 0.2. Greedy: 9 / (2 * 1.5 * 0.1 * 0.8 * 50) + 0.6 / (1.5 * 0.8) = 0.75 + 0.5.

    SGD: 9 / (2 * 0.1 * 0.8 * 50) + 0.2 * 0.2 / 0.8 + 0.2 = 1.125 + 0.05 + 0.2.
    """
    assert greedy_sgd_bound(50, **GREEDY) == pytest.approx(1.25, rel=1e-12)
    assert greedy_sgd_bound(math.inf, **GREEDY) == pytest.approx(0.5, rel=1e-12)
    assert sgd_bound(50, **SGD) == pytest.approx(1.375, rel=1e-12)
    assert greedy_sgd_floor(**PAIR) == pytest.approx(0.4, rel=1e-12)


def test_theorem_5_14_accepts_a_ratio_below_1() -> None:
    """Half the ratio doubles the bound."""
    approximate = {**STEPS, "max_loss_at_minimum": 0.6}
    below = approximate_greedy_sgd_bound(50, approximate_loss_ratio=0.75, **approximate)
    assert below == pytest.approx(2 * greedy_sgd_bound(50, **GREEDY), rel=1e-12)


@pytest.mark.parametrize("ratio", [1.1, 2.0])
def test_bounds_cross_where_corollary_5_10_says(ratio: float) -> None:
    pair = {"loss_ratio": ratio, "max_loss_at_minimum": 0.6}
    both = {**pair, "minimum_loss": 0.2}
    step = crossing_step(initial_distance=3.0, learning_rate=0.1, **both)
    value = crossing_loss(learning_rate=0.1, smoothness=2.0, **both)
    assert greedy_sgd_bound(step, **STEPS, **pair) == pytest.approx(value, rel=1e-9)
    assert sgd_bound(step, **SGD) == pytest.approx(value, rel=1e-9)
    assert greedy_sgd_bound(step / 2, **STEPS, **pair) < sgd_bound(step / 2, **SGD)


def test_crossing_at_the_ends() -> None:
    """1.5 * 0.2 rounds above 0.3; that counts as equal."""
    run = {"initial_distance": 3.0, "learning_rate": 0.1, "minimum_loss": 0.2}
    assert crossing_step(loss_ratio=1.5, max_loss_at_minimum=0.3, **run) == math.inf
    assert crossing_step(loss_ratio=1.0, max_loss_at_minimum=0.3, **run) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.5}, r"learning_rate=0.5 must be in \(0, .* such as 0.05"),
        ({"loss_ratio": 0.9}, "loss_ratio=0.9 must be at least 1"),
        ({"loss_ratio": math.nan}, "loss_ratio=nan"),
        ({"max_loss_at_minimum": -1.0}, "max_loss_at_minimum=-1 must be at least 0"),
    ],
)
def test_arguments_outside_their_range(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        greedy_sgd_bound(10, **{**GREEDY, **changes})


def test_crossing_refuses_what_equation_5_excludes() -> None:
    too_low = {**PAIR, "max_loss_at_minimum": 0.25, "minimum_loss": 0.2}
    with pytest.raises(ValueError, match=r"at least loss_ratio \* minimum_loss = 0.3"):
        crossing_step(initial_distance=1, learning_rate=0.1, **too_low)
    alike = {"loss_ratio": 1.0, "max_loss_at_minimum": 0.6, "minimum_loss": 0.2}
    with pytest.raises(ValueError, match="loss_ratio=1 must be above 1"):
        crossing_loss(learning_rate=0.1, smoothness=2.0, **alike)
