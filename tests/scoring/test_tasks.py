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
from sift_trainer.scoring.criteria import CRITERIA, ENTROPY, LOSS, UNLABELLED
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
LOG2, LOG3, LOG4 = math.log(2), math.log(3), math.log(4)
CTC = Transcription(0, "mean", False, None)


@pytest.fixture(autouse=True)
def _registries() -> Iterator[None]:
    tasks, criteria = dict(_REGISTERED), dict(CRITERIA)
    yield
    for registry, before in ((_REGISTERED, tasks), (CRITERIA, criteria)):
        registry.clear()
        registry.update(before)


def assert_scores(task: Any, criterion: Any, logits: Tensor, labels: Any, expected: Any) -> None:
    found = task.scores(criterion, logits, torch.as_tensor(labels))
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)


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


def test_the_task_follows_from_the_model_and_the_labels() -> None:
    for name, entry in MATRIX.items():
        task = task_of(entry.build(), entry.batch().get("labels"))
        assert type(task) is OTHERS.get(name, ClassIds), name


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
def test_the_task_of_a_classifier_is_by_its_configuration_or_the_labels(
    problem_type: Any, num_labels: int, labels: Any, task: type
) -> None:
    settings = tiny_configs.bert()
    settings.problem_type, settings.num_labels = problem_type, num_labels
    assert type(task_of(hf.BertForSequenceClassification(settings), labels)) is task
    settings.num_labels = 1
    assert task_of(hf.BertForMultipleChoice(settings), IDS) == ClassIds()


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
    logits = torch.tensor([[0.0, LOG3], [-2.0, 1.0]])
    labels = torch.tensor([[1.0, 0.0], [0.25, 1.0]])
    yes = [[0.5, 0.75], [1 / (1 + math.exp(2)), 1 / (1 + math.exp(-1))]]
    losses, entropies = [], []
    for shares, targets in zip(yes, labels.tolist(), strict=True):
        both = list(zip(shares, targets, strict=True))
        losses.append(sum(-t * math.log(p) - (1 - t) * math.log(1 - p) for p, t in both) / 2)
        entropies.append(sum(-p * math.log(p) - (1 - p) * math.log(1 - p) for p, _ in both) / 2)
    task = MultiLabel()
    assert_scores(task, LOSS, logits, labels, losses)
    assert_scores(task, ENTROPY, logits, labels, entropies)
    assert_scores(task, ENTROPY, logits, task.unlabelled(logits, {}), entropies)
    assert_scores(task, ENTROPY, torch.tensor([[1e4, -60.0]]), [[0.0, 0.0]], [0.0])


def test_numbers_are_scored_by_their_squared_error() -> None:
    predictions = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    targets = torch.tensor([[0.0, 4.0], [0.5, -1.0]])
    assert_scores(Regression(), LOSS, predictions, targets, [(1 + 4) / 2, 0.0])
    for shape in ((2,), (2, 1)):
        one = targets[:, 0].reshape(shape)
        assert_scores(Regression(), LOSS, predictions[:, :1], one, [1.0, 0.0])


def test_an_answer_is_the_mean_of_its_start_and_its_end() -> None:
    """Three tokens; positions beyond them are ignored, negative ones are the first token's."""
    outputs = {
        "start_logits": torch.tensor([[0.0, 0.0, 0.0], [LOG2, 0.0, 0.0], [5.0, 0.0, 0.0]]),
        "end_logits": torch.tensor([[LOG2, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 3.0]]),
    }
    batch = {
        "input_ids": torch.zeros(3, 3),
        "start_positions": torch.tensor([1, -1, 3]),
        "end_positions": torch.tensor([0, 9, 7]),
    }
    task = AnswerSpan()
    logits, labels = task.logits(outputs, batch, dict), task.labels(batch)
    starts, ends = outputs.values()
    for values in ((starts, ends, (ends,)), (torch.tensor(1.0), starts, ends)):
        assert torch.equal(task.logits(values, {}, dict), logits)
    assert_scores(task, LOSS, logits, labels, [(LOG3 + LOG2) / 2, LOG2, UNLABELLED])
    assert task.counts(labels).tolist() == [2, 1, 0]
    uneven = LOG4 / 2 + LOG2 / 2  # of 1/2, 1/4, 1/4
    assert_scores(task, ENTROPY, logits, labels, [(LOG3 + uneven) / 2, uneven, UNLABELLED])


def ctc_by_hand(probabilities: list[list[float]], transcript: list[int], blank: int) -> float:
    """Minus the logarithm of the probability of all paths that read as ``transcript``."""
    total = 0.0
    for path in itertools.product(range(len(probabilities[0])), repeat=len(probabilities)):
        if [token for token, _ in itertools.groupby(path) if token != blank] == transcript:
            total += math.prod(
                frame[token] for frame, token in zip(probabilities, path, strict=True)
            )
    return -math.log(total) if total else math.inf


@pytest.mark.parametrize(("reduction", "zero_infinity"), [("mean", False), ("sum", True)])
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


def test_smoothing_is_part_of_the_loss_and_of_nothing_else() -> None:
    logits, label = torch.tensor([[0.0, LOG3]]), [0]
    plain, smooth = ClassIds(), ClassIds().smoothed(0.2)
    expected = 0.8 * LOG4 + 0.2 * (LOG4 + math.log(4 / 3)) / 2
    assert_scores(smooth, LOSS, logits, label, [expected])
    for task in (plain, smooth):
        assert_scores(task, ENTROPY, logits, label, [LOG4 / 4 + 3 / 4 * math.log(4 / 3)])
    assert AnswerSpan().smoothed(0.2) == AnswerSpan()  # the Trainer smooths ``labels`` only


# ---- refusals ----


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: Regression().values(ENTROPY), "use sift_criterion='loss'"),
        (lambda: CTC.values(ENTROPY), "alignments"),
        (lambda: CTC.smoothed(0.2), r"label_smoothing_factor=0\.2"),
        (lambda: MultiLabel().smoothed(0.2), r"label_smoothing_factor=0\.2"),
        (  # XLNet's and XLM's answers, of a beam
            lambda: AnswerSpan().logits({"start_top_log_probs": torch.rand(2, 3)}, {}, dict),
            "start_top_log_probs.*use sift_criterion='random'",
        ),
        (
            lambda: CTC.logits({}, {"attention_mask": torch.ones(2, 50)}, lambda _: FLOATS[None]),
            "use sift_criterion='random'",
        ),
    ],
)
def test_criteria_and_outputs_that_a_task_has_no_scores_for(call: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()


@pytest.mark.parametrize(
    ("task", "logits", "labels"),
    [
        (ClassIds(), (4, 5), (4, 5)),
        (MultiLabel(), (4, 5), (4,)),
        (MultiLabel(), (4, 3, 5), (4, 3, 5)),
        (Regression(), (4, 5), (4,)),
        (Regression(), (4, 3, 1), (4, 3)),
        (CTC, (4, 9, 5), (4,)),
    ],
)
def test_labels_of_another_shape_are_refused(task: Any, logits: Any, labels: Any) -> None:
    with pytest.raises(ValueError, match="do not fit logits of shape") as error:
        task.scores(LOSS, torch.zeros(logits), torch.zeros(labels, dtype=torch.long))
    assert str(labels) in str(error.value)
