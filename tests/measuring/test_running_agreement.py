"""The agreement of scores and losses during a run, against SciPy's and by hand."""

import json
import math

import pytest
import torch
from scipy.stats import spearmanr

from sift_trainer.measuring.running_agreement import (
    MEMORY,
    MIN_UPDATES,
    RunningAgreement,
    rank_correlation,
)
from sift_trainer.scoring.criteria import UNLABELLED

CPU = torch.device("cpu")


@pytest.mark.parametrize("seed", range(5))
def test_it_is_spearmans_with_equal_values_and_missing_ones(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 6, (20,), generator=draw).float()
    losses = torch.randint(0, 6, (20,), generator=draw).float() + scores
    found, weight = rank_correlation(scores, losses).tolist()
    assert (found, weight) == (pytest.approx(spearmanr(scores, losses).statistic, abs=1e-5), 1)
    more = torch.tensor([UNLABELLED, torch.nan, torch.inf, 1.0])
    other = torch.tensor([UNLABELLED, 1.0, 1.0, torch.nan])
    again = rank_correlation(torch.cat([more, scores]), torch.cat([other, losses]))
    torch.testing.assert_close(again, torch.tensor([found, 1.0]))


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0, 1.0], [1.0, 2.0], [1.0, 2.0, UNLABELLED]])
def test_nothing_to_order_has_no_weight(values: list[float]) -> None:
    scores = torch.tensor(values)
    assert rank_correlation(scores, torch.arange(len(values)).float()).tolist() == [0, 0]
    agreement = RunningAgreement()
    agreement.add(scores, scores)
    assert not agreement.end_update(1)
    assert agreement.value is None


def test_the_mean_forgets_and_a_checkpoint_keeps_it() -> None:
    order = torch.arange(8.0)
    agreement = RunningAgreement()
    for scores in (order, order.flip(0), order):
        agreement.add(scores[:4], order[:4])  # two micro-batches of an update
        agreement.add(scores[4:], order[4:])
        assert not agreement.end_update(1)
    assert not agreement.end_update(1)  # an update that was not measured
    weights = [MEMORY**2, MEMORY, 1]
    expected = (weights[0] - weights[1] + weights[2]) / sum(weights)
    assert agreement.value == pytest.approx(expected)
    restored = RunningAgreement.restored(json.loads(json.dumps(agreement.state())), CPU)
    assert restored.value == agreement.value
    for each in (agreement, restored):
        each.add(order, order.roll(1))
        each.end_update(1)
    assert restored.value == agreement.value


@pytest.mark.parametrize(("correlation", "blind"), [(0.0, True), (0.4, False)])
def test_it_decides_after_the_least_number_of_updates(correlation: float, blind: bool) -> None:
    """Of 32 samples the standard error of a mean over 25 updates is .036."""
    draw = torch.Generator().manual_seed(0)
    agreement, decisions = RunningAgreement(), []
    for _ in range(MIN_UPDATES):
        scores, noise = torch.randn(2, 32, generator=draw)
        losses = correlation * scores + math.sqrt(1 - correlation**2) * noise
        agreement.add(scores, losses)
        decisions.append(agreement.end_update(1))
    assert decisions == [False] * (MIN_UPDATES - 1) + [blind]
    assert agreement.too_low == blind
    agreement.add(scores, losses)
    assert not agreement.end_update(1)  # said once
