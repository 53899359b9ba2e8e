"""What a model predicts: found by class, configuration and labels; scored as by hand."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from sift_trainer import register_task
from sift_trainer.scoring.criteria import CRITERIA, ENTROPY, LOSS, UNLABELLED, register_criterion
from sift_trainer.scoring.tasks import (
    _REGISTERED,
    AnswerSpan,
    ClassIds,
    MultiLabel,
    Regression,
    Transcription,
    task_of,
)
from tests import tiny_configs
from tests.matrix import MATRIX
from tests.tiny import PlainNet

FLOATS, IDS = torch.zeros(2, 5), torch.zeros(2, dtype=torch.long)


@pytest.fixture
def registries() -> Iterator[None]:
    tasks, criteria = dict(_REGISTERED), dict(CRITERIA)
    yield
    for registry, before in ((_REGISTERED, tasks), (CRITERIA, criteria)):
        registry.clear()
        registry.update(before)


# ---- which ----

OTHERS = {
    "bert, answers": AnswerSpan,
    "albert, answers": AnswerSpan,
    "bert, a number": Regression,
    "bert, numbers": Regression,
    "bert, several labels": MultiLabel,
    "ast, several labels": MultiLabel,
    "ast, a number": Regression,
    "wav2vec2, transcripts": Transcription,
    "wav2vec2, summed transcripts": Transcription,
}


@pytest.mark.parametrize("name", MATRIX)
def test_the_task_follows_from_the_model_and_the_labels(name: str) -> None:
    entry = MATRIX[name]
    assert type(task_of(entry.build(), entry.batch().get("labels"))) is OTHERS.get(name, ClassIds)


@pytest.mark.parametrize(
    ("problem_type", "num_labels", "labels", "task"),
    [
        (None, 5, IDS, ClassIds),
        (None, 5, FLOATS, MultiLabel),
        (None, 1, FLOATS, Regression),
        (None, 1, IDS, Regression),
        (None, 5, None, ClassIds),
        ("regression", 5, None, Regression),
        ("multi_label_classification", 5, None, MultiLabel),
        ("single_label_classification", 5, IDS, ClassIds),
    ],
)
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (hf.BertForSequenceClassification, tiny_configs.bert),
        (hf.ViTForImageClassification, tiny_configs.vision),
    ],
)
def test_the_type_of_problem_is_the_configurations_or_the_labels(
    kind: Any, config: Any, problem_type: Any, num_labels: int, labels: Any, task: type
) -> None:
    settings = config()
    settings.problem_type, settings.num_labels = problem_type, num_labels
    assert type(task_of(kind(settings), labels)) is task


def test_one_output_means_a_regression_only_where_models_take_it_so() -> None:
    config = tiny_configs.bert()
    config.num_labels = 1
    for kind in (hf.BertForMultipleChoice, hf.BertForMaskedLM, hf.BertForTokenClassification):
        assert task_of(kind(config), IDS) == ClassIds()


@pytest.mark.usefixtures("registries")
def test_a_registered_task_goes_first_and_holds_for_subclasses() -> None:
    class Finer(PlainNet):
        pass

    assert task_of(Finer(), FLOATS) == ClassIds()
    register_task(PlainNet, Regression())
    assert task_of(Finer(), FLOATS) == Regression()
    register_task(Finer, MultiLabel())
    assert task_of(Finer(), FLOATS) == MultiLabel()
    assert task_of(PlainNet(), FLOATS) == Regression()


# ---- how ----


def test_several_labels_are_a_yes_or_no_each() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [-2.0, 1.0]])
    labels = torch.tensor([[1.0, 0.0], [0.25, 1.0]])
    yes = [[0.5, 0.75], [1 / (1 + math.exp(2)), 1 / (1 + math.exp(-1))]]
    losses, entropies = [], []
    for shares, targets in zip(yes, labels.tolist(), strict=True):
        both = list(zip(shares, targets, strict=True))
        losses.append(sum(-t * math.log(p) - (1 - t) * math.log(1 - p) for p, t in both) / 2)
        entropies.append(sum(-p * math.log(p) - (1 - p) * math.log(1 - p) for p, _ in both) / 2)
    task = MultiLabel()
    torch.testing.assert_close(task.scores(LOSS, logits, labels), torch.tensor(losses))
    torch.testing.assert_close(task.scores(ENTROPY, logits, labels), torch.tensor(entropies))
    nothing = task.unlabelled(logits, {})
    torch.testing.assert_close(task.scores(ENTROPY, logits, nothing), torch.tensor(entropies))


def test_a_certain_yes_has_no_entropy() -> None:
    logits = torch.tensor([[1e4, -1e4], [60.0, -60.0]])
    found = MultiLabel().scores(ENTROPY, logits, torch.zeros(2, 2))
    torch.testing.assert_close(found, torch.zeros(2), rtol=0, atol=1e-20)


def test_numbers_are_scored_by_their_squared_error() -> None:
    predictions = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    targets = torch.tensor([[0.0, 4.0], [0.5, -1.0]])
    found = Regression().scores(LOSS, predictions, targets)
    torch.testing.assert_close(found, torch.tensor([(1 + 4) / 2, 0.0]))
    for shape in ((2,), (2, 1)):
        found = Regression().scores(LOSS, predictions[:, :1], targets[:, 0].reshape(shape))
        torch.testing.assert_close(found, torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="a regression predicts numbers; use sift_criterion='lo"):
        Regression().values(ENTROPY)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_scored_in_full(dtype: torch.dtype) -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    for task in (MultiLabel(), Regression()):
        found = task.scores(LOSS, logits, torch.ones(3, 4, dtype=dtype))
        assert found.dtype is torch.float32
        assert torch.equal(found, task.scores(LOSS, logits.float(), torch.ones(3, 4)))


def test_an_answer_is_the_mean_of_its_start_and_its_end() -> None:
    """Three tokens; positions beyond them are ignored, negative ones are the first token's."""
    outputs = {
        "start_logits": torch.tensor([[0.0, 0.0, 0.0], [math.log(2), 0.0, 0.0], [5.0, 0.0, 0.0]]),
        "end_logits": torch.tensor([[math.log(2), 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 3.0]]),
    }
    batch = {
        "input_ids": torch.zeros(3, 3),
        "start_positions": torch.tensor([1, -1, 3]),
        "end_positions": torch.tensor([0, 9, 7]),
    }
    task = AnswerSpan()
    logits, labels = task.logits(outputs, batch, dict), task.labels(batch)
    assert logits.shape == (3, 2, 3)
    expected = torch.tensor([(math.log(3) + math.log(2)) / 2, math.log(2), UNLABELLED])
    torch.testing.assert_close(task.scores(LOSS, logits, labels), expected)
    assert task.counts(labels).tolist() == [2, 1, 0]
    uneven = math.log(4) / 2 + math.log(2) / 2  # of 1/2, 1/4, 1/4
    entropies = torch.tensor([(math.log(3) + uneven) / 2, uneven, UNLABELLED])
    torch.testing.assert_close(task.scores(ENTROPY, logits, labels), entropies, atol=1e-6, rtol=0)


def test_an_answer_is_found_in_a_tuple_too() -> None:
    starts, ends = torch.rand(2, 3), torch.rand(2, 3)
    for outputs in ((starts, ends, (ends,)), (torch.tensor(1.0), starts, ends)):
        logits = AnswerSpan().logits(outputs, {}, dict)
        assert torch.equal(logits[:, 0], starts)
        assert torch.equal(logits[:, 1], ends)


def test_answers_that_are_searched_for_have_no_scores() -> None:
    """XLNet's and XLM's, of a beam."""
    outputs = {"start_top_log_probs": torch.rand(2, 3), "end_top_log_probs": torch.rand(2, 3)}
    with pytest.raises(ValueError, match=r"start_top_log_probs.*use sift_criterion='random'"):
        AnswerSpan().logits(outputs, {}, dict)


def ctc_by_hand(probabilities: list[list[float]], transcript: list[int], blank: int) -> float:
    """Minus the logarithm of the probability of all paths that read as ``transcript``."""
    total = 0.0
    for path in itertools.product(range(len(probabilities[0])), repeat=len(probabilities)):
        if [token for token, _ in itertools.groupby(path) if token != blank] == transcript:
            total += math.prod(
                frame[token] for frame, token in zip(probabilities, path, strict=True)
            )
    return -math.log(total) if total else math.inf


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("zero_infinity", [False, True])
def test_a_transcript_is_scored_over_all_its_alignments(
    reduction: str, zero_infinity: bool
) -> None:
    """Six frames of four classes; of the second sound three frames are padding, too few for its
    transcript in the third."""
    logits = torch.randn(4, 6, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[1, 2, 2], [3, -100, -100], [1, 2, 1], [-100, -100, -100]])
    frames = [6, 3, 2, 5]
    task = Transcription(0, reduction, zero_infinity, lambda lengths: lengths // 10)
    batch = {"attention_mask": torch.arange(60) < 10 * torch.tensor(frames)[:, None]}
    expected = []
    for row, length in enumerate(frames):
        transcript = [token for token in labels[row].tolist() if token >= 0]
        loss = ctc_by_hand(logits[row, :length].softmax(-1).tolist(), transcript, blank=0)
        loss = 0.0 if zero_infinity and loss == math.inf else loss
        expected.append(loss / max(1, len(transcript)) if reduction == "mean" else loss)
    seen = task.logits({"logits": logits}, batch, lambda outputs: outputs["logits"])
    found = task.scores(LOSS, seen, labels)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-5)
    total = found.mean() if reduction == "mean" else found.sum()
    assert torch.equal(task.reduce(found, task.counts(labels)), total)


def test_ctc_has_no_criterion_of_single_predictions() -> None:
    task = Transcription(0, "mean", False, None)
    with pytest.raises(ValueError, match="sums over all alignments"):
        task.values(ENTROPY)
    mask = {"attention_mask": torch.ones(2, 50)}
    with pytest.raises(ValueError, match="no function for the number of frames"):
        task.logits({}, mask, lambda _: torch.zeros(2, 5, 4))


def test_smoothing_is_part_of_the_loss_and_of_nothing_else() -> None:
    logits = torch.tensor([[0.0, math.log(3)]])
    plain, smooth = ClassIds(), ClassIds().smoothed(0.2)
    expected = 0.8 * math.log(4) + 0.2 * (math.log(4) + math.log(4 / 3)) / 2
    found = smooth.scores(LOSS, logits, torch.tensor([0]))
    torch.testing.assert_close(found, torch.tensor([expected]))
    for task in (plain, smooth):
        entropy = task.scores(ENTROPY, logits, torch.tensor([0]))
        expected = math.log(4) / 4 + 3 / 4 * math.log(4 / 3)
        torch.testing.assert_close(entropy, torch.tensor([expected]))
    assert AnswerSpan().smoothed(0.2) == AnswerSpan()  # the Trainer smooths ``labels`` only
    for task in (MultiLabel(), Regression(), Transcription(0, "mean", False, None)):
        with pytest.raises(ValueError, match=r"label_smoothing_factor=0\.2 smooths class ids"):
            task.smoothed(0.2)


@pytest.mark.usefixtures("registries")
def test_a_registered_criterion_reads_what_the_task_predicts() -> None:
    seen = []

    def largest(logits: Tensor, targets: Tensor) -> Tensor:
        seen.append((tuple(logits.shape), tuple(targets.shape)))
        return logits.amax(dim=-1)

    register_criterion("largest", largest)
    logits = torch.tensor([[1.0, 4.0], [3.0, 2.0]])
    for task in (MultiLabel(), Regression()):
        assert task.scores(CRITERIA["largest"], logits, torch.zeros(2, 2)).tolist() == [4.0, 3.0]
    assert ClassIds().scores(CRITERIA["largest"], logits, torch.tensor([0, 1])).tolist() == [
        4.0,
        3.0,
    ]
    assert seen == [((2, 2), (2, 2))] * 2 + [((2, 2), (2,))]


def test_a_class_id_may_be_alone_in_a_list() -> None:
    """Models flatten their labels."""
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    scores = ClassIds().scores(LOSS, logits, torch.tensor([[0], [1]]))
    torch.testing.assert_close(scores, torch.tensor([math.log(2), math.log(4)]))


@pytest.mark.parametrize(
    ("task", "logits", "labels"),
    [
        (ClassIds(), (4, 5), (4, 5)),
        (MultiLabel(), (4, 5), (4,)),
        (MultiLabel(), (4, 3, 5), (4, 3, 5)),
        (Regression(), (4, 5), (4,)),
        (Regression(), (4, 3, 1), (4, 3)),
        (Transcription(0, "mean", False, None), (4, 9, 5), (4,)),
    ],
)
def test_labels_of_another_shape_are_refused(task: Any, logits: Any, labels: Any) -> None:
    with pytest.raises(ValueError, match="do not fit logits of shape") as error:
        task.scores(LOSS, torch.zeros(logits), torch.zeros(labels, dtype=torch.long))
    assert str(labels) in str(error.value)
