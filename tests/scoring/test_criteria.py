"""Per-sample scores against loops with math.log and math.exp."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from sift_trainer import per_sample_entropy, per_sample_loss
from sift_trainer.arguments import SiftArguments
from sift_trainer.scoring.criteria import CRITERIA, UNLABELLED, mean_per_row, register_criterion
from sift_trainer.scoring.positions import scored_positions


@pytest.fixture
def criteria() -> Iterator[None]:
    before = dict(CRITERIA)
    yield
    CRITERIA.clear()
    CRITERIA.update(before)


def loss_by_hand(logits: list[float], target: int) -> float:
    return -math.log(math.exp(logits[target]) / sum(math.exp(z) for z in logits))


def entropy_by_hand(logits: list[float], _: int = 0) -> float:
    total = sum(math.exp(z) for z in logits)
    return -sum(math.exp(z) / total * math.log(math.exp(z) / total) for z in logits)


def rows_by_hand(value: Any, logits: Tensor, labels: Tensor) -> Tensor:
    scores = []
    for row, targets in zip(logits.tolist(), labels.tolist(), strict=True):
        pairs = zip(row, targets, strict=True)
        values = [value(z, target) for z, target in pairs if target != -100]
        scores.append(sum(values) / len(values) if values else UNLABELLED)
    return torch.tensor(scores)


BOTH = pytest.mark.parametrize(
    ("scores", "value"), [(per_sample_loss, loss_by_hand), (per_sample_entropy, entropy_by_hand)]
)
LABELS = torch.tensor(
    [[1, -100, 3, 0], [-100, -100, -100, -100], [-100, 2, -100, -100], [0, 1, 2, 3]]
)


def random_logits(*shape: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@BOTH
def test_tokens_against_a_loop(scores: Any, value: Any, dtype: torch.dtype) -> None:
    """In full precision: bf16 arithmetic would be off by a percent."""
    logits = random_logits(4, 4, 5).to(dtype)
    found = scores(logits, LABELS)
    assert found.dtype is torch.float32
    expected = rows_by_hand(value, logits.float(), LABELS)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@BOTH
def test_classes_against_a_loop(scores: Any, value: Any) -> None:
    logits, labels = random_logits(4, 5), torch.tensor([4, -100, 0, 2])
    expected = rows_by_hand(value, logits[:, None], labels[:, None])
    torch.testing.assert_close(scores(logits, labels), expected)
    assert scores(logits, labels)[1] == UNLABELLED


@pytest.mark.parametrize("level", [0.0, -50.0, 1e4])
def test_the_entropy_of_a_uniform_prediction_is_the_logarithm_of_the_classes(level: float) -> None:
    found = per_sample_entropy(torch.full((2, 1000), level), torch.tensor([0, 1]))
    torch.testing.assert_close(found, torch.full((2,), math.log(1000)))


@pytest.mark.parametrize("gap", [50.0, 2.0**100, torch.inf])
def test_the_entropy_of_a_certain_prediction_is_zero(gap: float) -> None:
    logits = torch.full((2, 9), -gap)
    logits[:, 4] = 0.0
    found = per_sample_entropy(logits, torch.tensor([0, 4]))
    torch.testing.assert_close(found, torch.zeros(2), rtol=0, atol=1e-6)
    assert per_sample_loss(logits, torch.tensor([0, 4])).tolist() == [gap, 0.0]


def test_entropies_of_impossible_classes_and_of_large_logits() -> None:
    """Of p = 1 - e^-10 at logits near 1000 a difference of sums is off in the fifth digit."""
    label = torch.tensor([0])
    found = per_sample_entropy(torch.tensor([[1.0, 2.0, -torch.inf, 0.5]]), label)
    torch.testing.assert_close(found, torch.tensor([entropy_by_hand([1.0, 2.0, 0.5])]))
    found = per_sample_entropy(torch.tensor([[1000.0, 990.0]]), label)
    expected = torch.tensor([entropy_by_hand([0.0, -10.0])])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)


@BOTH
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_broken_logit_breaks_its_own_sample_only(scores: Any, value: Any, bad: float) -> None:
    logits = random_logits(4, 4, 5)
    healthy = scores(logits, LABELS)
    logits[2, 0] = bad  # has no label
    assert torch.equal(scores(logits, LABELS), healthy)
    logits[3, 2, 0] = bad
    found = scores(logits, LABELS)
    assert not torch.isfinite(found[3])
    assert torch.equal(found[:3], healthy[:3])


@pytest.mark.parametrize(
    ("logits", "labels", "wanted"),
    [((4, 4, 5), (4,), "(4, 4)"), ((4, 5), (4, 4), "(4,)"), ((4, 4, 5), (4, 3), "(4, 4)")],
)
def test_shapes_that_disagree_are_refused(logits: Any, labels: Any, wanted: str) -> None:
    with pytest.raises(ValueError, match="logits of shape") as error:
        per_sample_loss(torch.zeros(logits), torch.zeros(labels, dtype=torch.long))
    for shape in (logits, labels, wanted):
        assert str(shape) in str(error.value)


def test_means_of_rows() -> None:
    """Of ragged rows, and of rows with places that have no label, whatever stands there."""
    labels = torch.tensor([[9, -100], [-100, -100], [9, 9], [-100, 9]])
    expected, nan = [1.0, UNLABELLED, 4.0, 5.0], math.nan
    ragged = torch.tensor([1.0, 2.0, 6.0, 5.0])
    assert mean_per_row(ragged, scored_positions(labels)).tolist() == expected
    filled = torch.tensor([1.0, nan, nan, nan, 2.0, 6.0, 5.0, nan])
    assert mean_per_row(filled, scored_positions(labels, per_row=2)).tolist() == expected


@pytest.mark.usefixtures("criteria")
def test_a_registered_criterion_can_be_chosen_by_name() -> None:
    def margin(logits: Tensor, targets: Tensor) -> Tensor:
        best = logits.topk(2).values
        return best[:, 1] - best[:, 0]

    with pytest.raises(ValueError, match="sift_criterion='margin'"):
        SiftArguments(sift_criterion="margin")
    register_criterion("margin", margin)
    assert CRITERIA[SiftArguments(sift_criterion="margin").sift_criterion].values is margin
    for taken in ("margin", "loss"):
        with pytest.raises(ValueError, match=f"'{taken}' is taken"):
            register_criterion(taken, margin)
