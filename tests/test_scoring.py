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


def rows_by_hand(value: Any, logits: Tensor, labels: Tensor) -> list[float]:
    scores = []
    for row, targets in zip(logits.tolist(), labels.tolist(), strict=True):
        pairs = zip(row, targets, strict=True)
        values = [value(z, target) for z, target in pairs if target != -100]
        scores.append(sum(values) / len(values) if values else UNLABELLED)
    return scores


BOTH = [(per_sample_loss, loss_by_hand), (per_sample_entropy, entropy_by_hand)]
LABELS = torch.tensor(
    [[1, -100, 3, 0], [-100, -100, -100, -100], [-100, 2, -100, -100], [0, 1, 2, 3]]
)


def random_logits(*shape: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("scores", "value"), BOTH)
def test_tokens_against_a_loop(scores: Any, value: Any) -> None:
    logits = random_logits(4, 4, 5)
    found = scores(logits, LABELS)
    assert found.dtype is torch.float32
    assert found.shape == (4,)
    torch.testing.assert_close(found, torch.tensor(rows_by_hand(value, logits, LABELS)))


@pytest.mark.parametrize(("scores", "value"), BOTH)
def test_classes_against_a_loop(scores: Any, value: Any) -> None:
    logits, labels = random_logits(4, 5), torch.tensor([4, -100, 0, 2])
    expected = rows_by_hand(value, logits[:, None], labels[:, None])
    torch.testing.assert_close(scores(logits, labels), torch.tensor(expected))
    assert scores(logits, labels)[1] == UNLABELLED


def test_a_rows_score_is_the_mean_of_its_positions_whatever_the_other_rows_have() -> None:
    """Two classes with logits 0 and log 3: p = 1/4 and 3/4."""
    logits = torch.tensor([0.0, math.log(3)]).expand(2, 3, 2)
    labels = torch.tensor([[0, 1, 1], [0, -100, -100]])
    expected = [(math.log(4) + 2 * math.log(4 / 3)) / 3, math.log(4)]
    torch.testing.assert_close(per_sample_loss(logits, labels), torch.tensor(expected))
    same = math.log(4) / 4 + 3 / 4 * math.log(4 / 3)
    torch.testing.assert_close(per_sample_entropy(logits, labels), torch.tensor([same, same]))


@pytest.mark.parametrize("classes", [2, 7, 1000])
def test_the_entropy_of_a_uniform_prediction_is_the_logarithm_of_the_classes(classes: int) -> None:
    labels = torch.tensor([0, 1])
    for level in (0.0, -50.0, 1e4):
        found = per_sample_entropy(torch.full((2, classes), level), labels)
        torch.testing.assert_close(found, torch.full((2,), math.log(classes)))


@pytest.mark.parametrize("gap", [50.0, 1e4, 2.0**100, torch.inf])
def test_the_entropy_of_a_certain_prediction_is_zero(gap: float) -> None:
    logits = torch.full((2, 9), -gap)
    logits[:, 4] = 0.0
    found = per_sample_entropy(logits, torch.tensor([0, 4]))
    torch.testing.assert_close(found, torch.zeros(2), rtol=0, atol=1e-6)
    assert per_sample_loss(logits, torch.tensor([0, 4])).tolist() == [gap, 0.0]


def test_classes_ruled_out_by_an_infinite_logit_do_not_count() -> None:
    logits = torch.tensor([[1.0, 2.0, -torch.inf, 0.5]])
    expected = entropy_by_hand([1.0, 2.0, 0.5])
    torch.testing.assert_close(
        per_sample_entropy(logits, torch.tensor([0])), torch.tensor([expected])
    )


def test_small_entropies_do_not_drown_in_large_logits() -> None:
    """p = 1 - e^-10: with logits near 1000 a difference of sums would be off in the fifth digit."""
    logits = torch.tensor([[1000.0, 990.0]])
    expected = entropy_by_hand([0.0, -10.0])
    found = per_sample_entropy(logits, torch.tensor([0]))
    torch.testing.assert_close(found, torch.tensor([expected]), rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("scores", "value"), BOTH)
def test_half_precision_logits_are_scored_in_full_precision(
    dtype: torch.dtype, scores: Any, value: Any
) -> None:
    """As good as the numbers that were given: bf16 arithmetic would be off by a percent."""
    logits = random_logits(4, 4, 5).to(dtype)
    found = scores(logits, LABELS)
    assert found.dtype is torch.float32
    expected = torch.tensor(rows_by_hand(value, logits.float(), LABELS))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scores", [per_sample_loss, per_sample_entropy])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_broken_logit_breaks_its_row_only(scores: Any, bad: float) -> None:
    logits = random_logits(4, 4, 5)
    healthy = scores(logits, LABELS)
    logits[3, 2, 0] = bad
    found = scores(logits, LABELS)
    assert not torch.isfinite(found[3])
    assert torch.equal(found[:3], healthy[:3])


def test_a_broken_logit_without_a_label_does_no_harm() -> None:
    logits = random_logits(4, 4, 5)
    healthy = per_sample_loss(logits, LABELS)
    logits[2, 0] = torch.nan
    assert torch.equal(per_sample_loss(logits, LABELS), healthy)


def test_entropy_reads_of_the_labels_only_where_they_are() -> None:
    logits = random_logits(4, 4, 5)
    others = torch.where(LABELS == -100, -100, 4 - LABELS)
    assert torch.equal(per_sample_entropy(logits, LABELS), per_sample_entropy(logits, others))
    assert not torch.equal(per_sample_loss(logits, LABELS), per_sample_loss(logits, others))


@pytest.mark.parametrize("scores", [per_sample_loss, per_sample_entropy])
@pytest.mark.parametrize(
    ("logits", "labels", "wanted"),
    [((4, 4, 5), (4,), "(4, 4)"), ((4, 5), (4, 4), "(4,)"), ((4, 4, 5), (4, 3), "(4, 4)")],
)
def test_shapes_that_disagree_are_refused(
    scores: Any, logits: Any, labels: Any, wanted: str
) -> None:
    with pytest.raises(ValueError, match="logits of shape") as error:
        scores(torch.zeros(logits), torch.zeros(labels, dtype=torch.long))
    assert f"logits of shape {logits} need labels of shape {wanted}, got {labels}" in str(
        error.value
    )


def test_means_of_ragged_rows() -> None:
    labels = torch.tensor([[9, -100], [-100, -100], [9, 9], [-100, 9], [-100, -100]])
    positions, values = scored_positions(labels), torch.tensor([1.0, 2.0, 6.0, 5.0])
    assert mean_per_row(values, positions).tolist() == [1.0, UNLABELLED, 4.0, 5.0, UNLABELLED]
    assert mean_per_row(values.bfloat16(), positions).dtype is torch.float32


def test_means_of_rows_with_filled_places() -> None:
    """What stands at places without a label has no part in it, be it not a number."""
    labels = torch.tensor([[9, -100], [-100, -100], [9, 9], [-100, 9]])
    positions = scored_positions(labels, per_row=2)
    nan = math.nan
    values = torch.tensor([1.0, nan, nan, nan, 2.0, 6.0, 5.0, nan])
    assert mean_per_row(values, positions).tolist() == [1.0, UNLABELLED, 4.0, 5.0]


def test_unlabelled_is_finite_and_below_any_score() -> None:
    assert math.isfinite(UNLABELLED)
    assert UNLABELLED < -1e38


@pytest.mark.usefixtures("criteria")
def test_a_registered_criterion_can_be_chosen_by_name() -> None:
    def margin(logits: Tensor, targets: Tensor) -> Tensor:
        best = logits.topk(2).values
        return best[:, 1] - best[:, 0]

    with pytest.raises(ValueError, match="sift_criterion='margin' is unknown"):
        SiftArguments(sift_criterion="margin")
    register_criterion("margin", margin)
    assert CRITERIA[SiftArguments(sift_criterion="margin").sift_criterion].values is margin
    for taken in ("margin", "loss", "random"):
        with pytest.raises(ValueError, match=f"criterion name '{taken}' is taken"):
            register_criterion(taken, margin)
