"""The agreement of scores and losses during a run, against SciPy's and by hand."""

import json
import math

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from sift_trainer.measuring.running_agreement import (
    LARGEST_LOSS,
    MEMORY,
    MIN_SAMPLES,
    MIN_UPDATES,
    RunningAgreement,
    exponential_quantiles,
    rank_correlation,
)
from sift_trainer.scoring.criteria import UNLABELLED
from sift_trainer.selection.rules import select_mixed

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
    note(agreement, scores, scores)
    assert agreement.correlation is None


def note(agreement: RunningAgreement, scores: Tensor, losses: Tensor) -> bool:
    """An update with all samples, of which the selector chooses the upper half."""
    rows = torch.arange(len(scores))
    agreement.add(scores, rows, losses, scores.argsort()[len(scores) // 2 :])
    return agreement.end_update()


def test_the_mean_forgets_and_a_checkpoint_keeps_it() -> None:
    order = torch.arange(8.0)
    agreement = RunningAgreement()
    for scores in (order, order.flip(0), order):
        for part in (slice(0, 4), slice(4, 8)):  # two micro-batches of an update
            rows = torch.arange(4)
            agreement.add(scores[part], rows, order[part], rows[:2])
        assert not agreement.end_update()
    assert not agreement.end_update()  # an update that was not measured
    weights = [MEMORY**16, MEMORY**8, 1]
    expected = (weights[0] - weights[1] + weights[2]) / sum(weights)
    assert agreement.correlation == pytest.approx(expected)
    restored = RunningAgreement.restored(json.loads(json.dumps(agreement.state())), CPU)
    assert (restored.correlation, restored.lift) == (agreement.correlation, agreement.lift)
    for each in (agreement, restored):
        note(each, order, order.roll(1))
    assert (restored.correlation, restored.lift) == (agreement.correlation, agreement.lift)


@pytest.mark.parametrize("whole", [True, False])
def test_the_lift_is_that_of_all_candidates(whole: bool) -> None:
    """Losses are the exponential quantiles of the scores. Then the lift is exact, although only the
    losses of some candidates are known."""
    draw = torch.Generator().manual_seed(0)
    agreement = RunningAgreement()
    chosen_losses, all_losses = torch.tensor(0.0), torch.tensor(0.0)
    for _ in range(7):
        order = torch.randperm(16, generator=draw)
        losses = 0.2 - (-(order + 0.5) / 16).log1p()
        scores = order.float().exp()  # only their order counts
        chosen = select_mixed(scores, 8, 0.5, draw)
        rows = torch.arange(16) if whole else chosen
        agreement.add(scores, rows, losses[rows], chosen)
        agreement.end_update()
        weight = MEMORY ** len(rows)
        chosen_losses = weight * chosen_losses + losses[chosen].mean()
        all_losses = weight * all_losses + losses.mean()
    assert agreement.lift == pytest.approx(float(chosen_losses / all_losses), rel=1e-4)


def test_a_lift_needs_losses_that_differ_and_scores_that_see() -> None:
    draw = torch.Generator().manual_seed(0)
    equal, blind, sees, without = (RunningAgreement() for _ in range(4))
    for _ in range(100):
        scores = torch.rand(32, generator=draw)
        noise = torch.rand(32, generator=draw)
        note(equal, scores, torch.ones(32))
        note(blind, scores, -noise.log())
        note(sees, -scores.log(), -scores.log())
        note(without, scores, torch.full((32,), torch.nan))
    assert equal.lift == pytest.approx(1, abs=1e-5)
    assert blind.lift == pytest.approx(1, abs=0.05)
    # The mean of the upper half of the exponential distribution.
    assert sees.lift == pytest.approx(1 + math.log(2), abs=0.03)
    assert without.lift is None
    assert (equal.pays, blind.pays, sees.pays, without.pays) == (False, False, True, True)


def test_samples_without_a_score_do_not_count() -> None:
    scores = torch.tensor([UNLABELLED, 3.0, torch.nan, 1.0, 2.0, 2.0])
    expected = [1, math.log(8), 1, math.log(8 / 7), math.log(2), math.log(2)]
    torch.testing.assert_close(exponential_quantiles(scores), torch.tensor(expected))


@pytest.mark.parametrize("size", [8, 32])
def test_it_decides_after_so_many_samples_and_can_change_its_mind(size: int) -> None:
    draw = torch.Generator().manual_seed(0)
    agreement, changes, every = RunningAgreement(), [], MIN_SAMPLES // size
    for update in range(12 * every):
        losses = -torch.rand(size, generator=draw).log()
        sees = update >= 3 * every
        if note(agreement, losses if sees else -losses, losses):
            changes.append((update + 1, agreement.pays))
    assert changes[0] == (every, False)
    assert len(changes) == 2
    assert changes[1] in [(decision * every, True) for decision in (4, 5, 6)]


def test_a_large_batch_decides_no_sooner_than_after_some_updates() -> None:
    losses = torch.arange(1000.0)
    decides, never = RunningAgreement(), RunningAgreement()
    for update in range(1, MIN_UPDATES + 1):
        assert note(decides, -losses, losses) == (update == MIN_UPDATES)
        rows = torch.arange(1000)
        never.add(-losses, rows, losses, rows[:500])
        assert not never.end_update(decides=False)
    assert never.lift == decides.lift
    assert (decides.pays, never.pays) == (False, True)


def test_it_opens_later_than_it_shuts() -> None:
    agreement = RunningAgreement()
    agreement.set_scoring_share(0.2)
    assert agreement.required_lift == pytest.approx(1.21)
    agreement.pays = False
    assert agreement.required_lift == pytest.approx(1.23)
    agreement.set_scoring_share(0.3)  # of a resumed run, whose first batch is another one
    assert agreement.scoring_share == 0.2


def test_one_huge_loss_counts_as_a_large_one() -> None:
    draw = torch.Generator().manual_seed(0)
    capped, without = RunningAgreement(), RunningAgreement()
    for update in range(40):
        losses = -torch.rand(32, generator=draw).log()
        note(without, losses, losses)
        easy = int(losses.argmin())
        trained = losses.clone()
        if update == 20:
            trained[easy] = 1e30
        note(capped, losses, trained)
    assert without.lift is not None
    assert capped.lift == pytest.approx(without.lift, abs=0.15)
    assert capped.pays
    # The running mean is 1, to a few percent.
    capped._noted.clear()
    assert float(capped._capped(torch.tensor([1e30]))) == pytest.approx(LARGEST_LOSS, rel=0.1)
