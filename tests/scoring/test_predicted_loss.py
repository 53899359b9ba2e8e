"""The predicted loss: the exit's loss at first, later what the losses of samples teach."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sift_trainer.measuring.agreement import spearman
from sift_trainer.scoring.criteria import UNLABELLED, Samples, SampleStates
from sift_trainer.scoring.predicted_loss import PredictedLoss

MODEL = nn.Linear(1, 1)


def samples(values: Tensor, labels: Any, states: Tensor | None, own: PredictedLoss) -> Samples:
    """Candidates as a scoring pass gives them, with their features."""
    found = Samples({}, values, labels)
    known = None if states is None else SampleStates(states[:, None], torch.ones(len(states), 1))
    return Samples({}, values, labels, own.features(found, known))


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The exit's losses, labels and states of samples."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.rand(count, generator=draw) * 4
    return (
        values,
        torch.randint(0, 5, (count,), generator=draw),
        torch.randn(count, 8, generator=draw),
    )


@pytest.mark.parametrize("states", [torch.randn(6, 8), None])
def test_at_first_the_score_is_the_exits_loss(states: Tensor | None) -> None:
    own = PredictedLoss(MODEL)
    values = torch.tensor([0.1, 3.0, 0.0, 12.0, 0.5, 2.0])
    found = own.scores(samples(values, torch.arange(6), states, own))
    torch.testing.assert_close(found, values, rtol=1e-5, atol=1e-6)


def test_an_exit_that_ranks_well_is_followed_and_a_blind_one_overruled() -> None:
    """The whole model's loss is a multiple of the exit's, or a function of label and state that the
    exit's loss says nothing of."""
    torch.manual_seed(0)
    direction = torch.randn(5, 8)
    for blind, least in ((False, 0.99), (True, 0.8)):
        own = PredictedLoss(MODEL)
        for step in range(250):
            values, labels, states = drawn(32, step)
            logit = (direction[labels] * states).sum(dim=1) / 2
            losses = nn.functional.softplus(-logit) if blind else 0.3 * values
            trained = samples(values, labels, states, own)
            if step >= 235:
                found = spearman(own.scores(trained), losses)
                assert found is not None
                assert found > least - 0.15
            own.learn(Samples({}, losses, labels, trained.features))
        values, labels, states = drawn(400, 10**6)
        logit = (direction[labels] * states).sum(dim=1) / 2
        losses = nn.functional.softplus(-logit) if blind else 0.3 * values
        found = spearman(own.scores(samples(values, labels, states, own)), losses)
        assert found is not None
        assert found > least


def test_predictions_are_in_nats() -> None:
    """Once learned, the mean prediction is the mean loss: a regression on log(1 + loss)."""
    own = PredictedLoss(MODEL)
    for step in range(200):
        values, labels, states = drawn(32, step)
        trained = samples(values, labels, states, own)
        own.learn(Samples({}, 2 + values, labels, trained.features))
    values, labels, states = drawn(200, 10**6)
    found = own.scores(samples(values, labels, states, own))
    assert (found - (2 + values)).abs().mean() < 0.1


def test_samples_without_a_score_keep_their_mark_and_teach_nothing() -> None:
    states = []
    for extra in (False, True):
        own = PredictedLoss(MODEL)
        values, labels, hidden = drawn(8, 0)
        losses = values + 1
        if extra:
            strange = torch.tensor([UNLABELLED, torch.nan, torch.inf, 1.0])
            values = torch.cat([values, strange])
            losses = torch.cat([losses, torch.tensor([UNLABELLED, 1.0, 1.0, UNLABELLED])])
            labels, hidden = torch.cat([labels, labels[:4]]), torch.cat([hidden, hidden[:4]])
        for _ in range(3):
            trained = samples(values, labels, hidden, own)
            own.learn(Samples({}, losses, labels, trained.features))
        found = own.scores(trained)
        assert found[:8].isfinite().all()
        if extra:
            assert found[8] == UNLABELLED
            assert found[9].isnan()
            assert found[10].isinf()
        states.append(own.state_dict())
    for name, value in states[0]["network"].items():
        torch.testing.assert_close(states[1]["network"][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "labels",
    [
        torch.arange(6) % 3,
        torch.tensor([[1, 2, -100]] * 6),
        torch.rand(6, 4),
        torch.rand(6),
        None,
        torch.arange(6) * 10**6,
    ],
    ids=["classes", "tokens", "several classes", "numbers", "none", "many classes"],
)
def test_labels_of_all_kinds_are_learned_from_and_the_state_is_restored(labels: Any) -> None:
    own, values, states = PredictedLoss(MODEL), torch.rand(6), torch.randn(6, 8)
    for _ in range(3):
        trained = samples(values, labels, states, own)
        own.learn(Samples({}, torch.rand(6), labels, trained.features))
    restored = PredictedLoss(MODEL)
    restored.load_state_dict(deepcopy(own.state_dict()))  # as a file
    assert not torch.equal(own.scores(trained), values)
    assert torch.equal(restored.scores(trained), own.scores(trained))
    losses = torch.linspace(0, 1, 6)
    for each in (own, restored):
        each.learn(Samples({}, losses, labels, trained.features))
    assert torch.equal(restored.scores(trained), own.scores(trained))
    unused = PredictedLoss(MODEL)
    unused.load_state_dict(restored.state_dict())
    assert unused.state_dict().keys() == restored.state_dict().keys()


def test_building_the_network_leaves_the_random_state_alone() -> None:
    own = PredictedLoss(MODEL)
    candidates = samples(torch.rand(4), torch.arange(4), torch.zeros(4, 8), own)
    before = torch.random.get_rng_state()
    with pytest.MonkeyPatch.context() as patch:  # it seeds all devices, which no context undoes
        patch.setattr(torch, "manual_seed", lambda seed: pytest.fail("a global seed is set"))
        own.scores(candidates)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_a_loss_that_is_not_finite_teaches_nothing(bad: float) -> None:
    found = []
    for spoilt in (False, True):
        own = PredictedLoss(MODEL)
        values, labels, states = drawn(8, 0)
        trained = samples(values, labels, states, own)
        if spoilt:
            own.learn(Samples({}, torch.full((8,), bad), labels, trained.features))
            assert own.state_dict()["network"]["output.weight"].abs().max() == 0
        own.learn(Samples({}, values + 1, labels, trained.features))
        found.append(own.scores(trained).detach())
        assert found[-1].isfinite().all()
    assert own.state_dict()["moments"].isfinite().all()


def test_states_of_another_width_leave_the_regression() -> None:
    """Of models whose states differ from batch to batch."""
    own = PredictedLoss(MODEL)
    values, labels, states = drawn(8, 0)
    own.learn(Samples({}, 2 * values, labels, samples(values, labels, states, own).features))
    other = samples(values, labels, torch.randn(8, 5), own)
    found = own.scores(other)
    assert spearman(found, values) == pytest.approx(1)
    own.learn(Samples({}, values, labels, other.features))


def test_the_mean_state_is_over_the_places_of_a_sample() -> None:
    states = torch.arange(12.0).reshape(2, 3, 2)
    weights = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[2.0, 3.0], [0.0, 0.0]])
    torch.testing.assert_close(SampleStates(states, weights).mean(), expected)
