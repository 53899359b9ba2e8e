"""One scoring pass: what it computes, what it refuses, and that it leaves no trace."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sift_trainer.arguments import SiftArguments
from sift_trainer.early_exit.labelled_head import LabelledHead
from sift_trainer.scoring.criteria import CRITERIA, UNLABELLED, register_criterion
from sift_trainer.scoring.tasks import ClassIds
from sift_trainer.sifted_model.facts import ModelFacts
from sift_trainer.sifted_model.no_trace import inference
from sift_trainer.sifted_model.scorer import Scorer, labels_are_inputs
from tests.tiny import BATCH, FAMILIES, LENGTH, PlainNet, class_labels, text, token_labels

CAUSAL = ("gpt2", "llama", "qwen3", "mistral", "gemma2", "gpt-neox", "opt", "mamba")
SEED = 11


def scorer_of(model: Any, gathered: bool = False, shifted: bool = False, **settings: Any) -> Scorer:
    settings = {"criterion": "loss", "exit_layer": -1, **settings}
    sift = SiftArguments(**{f"sift_{name}": value for name, value in settings.items()})
    head = LabelledHead.of(model) if gathered else None
    return Scorer(model, ModelFacts(ClassIds(shifted=shifted), head=head), sift)


def score(model: Any, batch: dict[str, Any], seed: int = SEED, **settings: Any) -> Tensor:
    scorer = scorer_of(model, **settings)
    with inference(model):
        return scorer(model, batch, torch.Generator().manual_seed(seed))


def nll(logits: list[float], target: int) -> float:
    top = max(logits)
    return top + math.log(sum(math.exp(z - top) for z in logits)) - logits[target]


def entropy(logits: list[float]) -> float:
    top = max(logits)
    total = sum(math.exp(z - top) for z in logits)
    shares = [math.exp(z - top) / total for z in logits]
    return -sum(share * math.log(share) for share in shares)


@torch.no_grad()
def logits_of(model: Any, batch: dict[str, Any]) -> Any:
    return model(**batch).logits.tolist()


# ---- what it computes ----


@pytest.mark.parametrize("gathered", [False, True])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_score_pairs_a_prediction_with_the_next_label(
    name: str, first: bool, gathered: bool
) -> None:
    model, inputs = FAMILIES[name].build(), FAMILIES[name].batch()
    labels = token_labels((3, 0, 1, 5), first)
    logits, expected = logits_of(model, inputs), []
    for row in range(BATCH):
        values = [
            nll(logits[row][t], int(labels[row, t + 1]))
            for t in range(LENGTH - 1)
            if labels[row, t + 1] != -100
        ]
        expected.append(sum(values) / len(values) if values else UNLABELLED)
    found = score(model, {**inputs, "labels": labels}, gathered=gathered, shifted=True)
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gathered", [False, True])
@pytest.mark.parametrize("criterion", ["loss", "entropy"])
@pytest.mark.parametrize("name", ["bert-mlm", "distilbert", "deberta-v2", "modernbert"])
def test_a_masked_score_pairs_a_prediction_with_its_own_label(
    name: str, criterion: str, gathered: bool
) -> None:
    model, inputs = FAMILIES[name].build(), FAMILIES[name].batch()
    labels = token_labels((3, 0, 1, 5))
    logits, expected = logits_of(model, inputs), []
    for row in range(BATCH):
        values = [
            nll(logits[row][t], int(labels[row, t]))
            if criterion == "loss"
            else entropy(logits[row][t])
            for t in range(LENGTH)
            if labels[row, t] != -100
        ]
        expected.append(sum(values) / len(values) if values else UNLABELLED)
    found = score(model, {**inputs, "labels": labels}, criterion=criterion, gathered=gathered)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_an_encoder_decoder_reads_its_labels_as_inputs_and_does_not_shift_them(name: str) -> None:
    model, inputs = FAMILIES[name].build(), FAMILIES["bert-mlm"].batch()
    labels = token_labels((3, 2, 1, 5)).masked_fill(torch.arange(LENGTH) < 2, 7)
    assert labels_are_inputs(model)
    logits = logits_of(model, {**inputs, "labels": labels})
    expected = []
    for row in range(BATCH):
        places = [t for t in range(LENGTH) if labels[row, t] != -100]
        values = [nll(logits[row][t], int(labels[row, t])) for t in places]
        expected.append(sum(values) / len(values))
    found = score(model, {**inputs, "labels": labels}, gathered=True)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)
    early = score(model, {**inputs, "labels": labels}, exit_layer=1)
    assert (early - found).abs().max() > 0.01


@pytest.mark.parametrize("name", ["bert-sequence", "vit", "dinov2", "wav2vec2"])
def test_one_class_per_sample(name: str) -> None:
    model, inputs = FAMILIES[name].build(), FAMILIES[name].batch()
    logits, labels = logits_of(model, inputs), class_labels()
    expected = [nll(row, int(label)) for row, label in zip(logits, labels, strict=True)]
    found = score(model, {**inputs, "labels": labels})
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_exit_layer_is_the_one_that_was_asked_for() -> None:
    family = FAMILIES["bert-sequence"]
    model, batch = family.build(), family.batch(labels=class_labels())
    states = model(**family.batch(), output_hidden_states=True).hidden_states
    for k in (1, 2, 3):
        logits = family.head(model, states[k]).tolist()
        expected = [nll(row, int(label)) for row, label in zip(logits, class_labels(), strict=True)]
        found = score(model, batch, exit_layer=k)
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gathered", [False, True])
def test_no_label_at_all(gathered: bool) -> None:
    for name in ("bert-mlm", "distilbert", "gpt2"):
        batch = FAMILIES[name].batch(labels=token_labels((0, 0, 0, 0)))
        found = score(FAMILIES[name].build(), batch, gathered=gathered)
        assert found.tolist() == [UNLABELLED] * BATCH, name


@pytest.mark.parametrize("name", ["bert-mlm", "gpt2"])
def test_entropy_without_labels_is_over_all_that_is_not_padding(name: str) -> None:
    model, inputs = FAMILIES[name].build(), text()
    logits = logits_of(model, inputs)
    expected = []
    for row in range(BATCH):  # row i has i pads at the end
        values = [entropy(logits[row][t]) for t in range(LENGTH - row)]
        expected.append(sum(values) / len(values))
    found = score(model, inputs, criterion="entropy", gathered=True)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)
    unpadded = text(padded=False)
    means = [sum(map(entropy, row)) / LENGTH for row in logits_of(model, unpadded)]
    found = score(model, unpadded, criterion="entropy")
    torch.testing.assert_close(found, torch.tensor(means), rtol=1e-5, atol=1e-5)


def test_entropy_of_a_classifier_without_labels() -> None:
    family = FAMILIES["vit"]
    model, inputs = family.build(), family.batch()
    expected = [entropy(row) for row in logits_of(model, inputs)]
    found = score(model, inputs, criterion="entropy")
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("gathered", [False, True])
def test_a_token_fraction_scores_by_some_of_the_positions(labelled: bool, gathered: bool) -> None:
    """Row 3 has five labels, of which round(0.4 * 5) = 2 are scored: one of ten pairs."""
    name = "bert-mlm"
    model, inputs = FAMILIES[name].build(), FAMILIES[name].batch()
    logits = logits_of(model, inputs)[3]
    places, batch, fraction = list(range(LENGTH - 3)), inputs, 2 / 9
    if labelled:
        labels = token_labels((3, 0, 1, 5))
        places = [t for t in range(LENGTH) if labels[3, t] != -100]
        batch, fraction = {**inputs, "labels": labels}, 0.4
    values = [entropy(logits[t]) for t in places]
    pairs = [(a + b) / 2 for i, a in enumerate(values) for b in values[:i]]
    found = {
        float(score(model, batch, seed, criterion="entropy", token_fraction=fraction,
                    gathered=gathered)[3])
        for seed in range(6)
    }  # fmt: skip
    assert len(found) > 1
    assert all(min(abs(value - pair) for pair in pairs) < 1e-5 for value in found)


# ---- what it refuses ----


def test_labels_that_are_no_classes_are_refused() -> None:
    family = FAMILIES["bert-sequence"]
    with pytest.raises(
        ValueError, match=r"labels are torch.float32, but .*sift_criterion='random'"
    ):
        score(family.build(), family.batch(labels=torch.rand(BATCH)))


@pytest.mark.parametrize("labels", [token_labels(), torch.zeros(BATCH, 3, dtype=torch.long)])
def test_labels_of_another_shape_than_the_predictions_are_refused(labels: Tensor) -> None:
    family = FAMILIES["bert-sequence"]
    with pytest.raises(ValueError, match=r"do not fit logits of shape \(4, 5\)"):
        score(family.build(), family.batch(labels=labels))


def test_a_loss_without_labels_is_refused() -> None:
    message = r"needs 'labels' in the batch, which has \['attention_mask', 'input_ids'\].*'entropy'"
    with pytest.raises(ValueError, match=message):
        score(FAMILIES["bert-mlm"].build(), text())


def test_an_exit_that_is_too_deep_is_refused_at_construction() -> None:
    with pytest.raises(
        ValueError, match=r"exit layer 4 is not in BertForMaskedLM: it has 3 blocks"
    ):
        scorer_of(FAMILIES["bert-mlm"].build(), exit_layer=4)
    with pytest.raises(ValueError, match="no early exit for PlainNet"):
        scorer_of(PlainNet(), exit_layer=1)


# ---- the control ----


def test_the_random_control_does_not_call_the_model() -> None:
    def forward(**_: Any) -> None:
        raise AssertionError("the model was called")

    scorer = scorer_of(PlainNet(), criterion="random")  # needs no early exit either
    batch = {"temperature": torch.tensor(1.0), **text()}
    scores = [scorer(forward, batch, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert scores[0].shape == (BATCH,)
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])


def test_a_criterion_of_ones_own_gets_the_logits_at_the_labels() -> None:
    seen = []

    def first_logit(logits: Tensor, targets: Tensor) -> Tensor:
        seen.append((logits.shape[0], targets.tolist()))
        return logits[:, 0]

    before = dict(CRITERIA)
    try:
        register_criterion("first", first_logit)
        labels = token_labels((2, 0, 1, 0))
        model, inputs = FAMILIES["bert-mlm"].build(), FAMILIES["bert-mlm"].batch()
        found = score(model, {**inputs, "labels": labels}, criterion="first")
        with pytest.raises(ValueError, match="sift_criterion='first' needs 'labels'"):
            score(model, inputs, criterion="first")
    finally:
        CRITERIA.clear()
        CRITERIA.update(before)
    ((rows, targets),) = seen  # of a head on all positions all, of which the labelled count
    assert rows == labels.numel()
    assert sorted(targets) == sorted(labels.clamp(min=0).flatten().tolist())
    logits = logits_of(model, inputs)
    place = int((labels[2] != -100).nonzero())
    assert float(found[2]) == pytest.approx(logits[2][place][0], rel=1e-5)


def test_scores_carry_no_graph_and_the_batch_is_left_alone() -> None:
    family = FAMILIES["bert-mlm"]
    batch = family.batch(labels=token_labels())
    before = {name: value.clone() for name, value in batch.items()}
    found = score(family.build(), batch, gathered=True)
    assert not found.requires_grad
    assert list(batch) == list(before)
    assert all(torch.equal(batch[name], value) for name, value in before.items())


def test_labels_are_not_given_to_a_model_that_would_compute_a_loss_from_them() -> None:
    family, seen = FAMILIES["bert-pretraining"], []
    model = family.build()
    sift = SiftArguments(sift_criterion="loss")
    facts = ModelFacts(label_names=("labels", "next_sentence_label"))
    scorer = Scorer(model, facts, sift)

    def forward(**inputs: Any) -> Any:
        seen.append(sorted(inputs))
        return model(**inputs)

    batch = family.batch(labels=token_labels(), next_sentence_label=torch.zeros(BATCH).long())
    with inference(model):
        scorer(forward, batch, torch.Generator())
    assert seen == [["attention_mask", "input_ids"]]


class Learning(nn.Module):
    """A model that is only there for training: it cannot be called without labels."""

    def __init__(self) -> None:
        super().__init__()
        self.net = PlainNet()

    def forward(self, input_ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.net(input_ids)["logits"]
        return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), logits


def test_labels_are_given_to_a_model_that_cannot_do_without() -> None:
    model, batch = (
        Learning(),
        {"input_ids": text()["input_ids"], "labels": token_labels((3, 2, 1, 5))},
    )
    with torch.no_grad():
        rows = [
            {name: value[row : row + 1] for name, value in batch.items()} for row in range(BATCH)
        ]
        losses = torch.stack([model(**row)[0] for row in rows])
    torch.testing.assert_close(score(model, batch), losses)
