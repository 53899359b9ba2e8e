"""What a model does with its labels is asked, and the answer is right."""

from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import MaskedLMOutput

from sift_trainer.early_exit.labelled_head import LabelledHead
from sift_trainer.scoring.positions import label_counts
from sift_trainer.sifted_model.questions import (
    divides_by_count,
    loss_of,
    rows_with_finite_loss,
    why_not_gathered,
)
from tests.tiny import BATCH, FAMILIES, LENGTH, class_labels, token_labels

CAUSAL = ("gpt2", "llama", "qwen3", "mistral", "gemma2", "gpt-neox", "opt", "mamba")
MASKED = (
    "bert-pretraining", "bert-mlm", "roberta", "electra", "distilbert", "deberta-v2", "modernbert"
)  # fmt: skip
DIVIDES = {"modernbert", *CAUSAL}


def batch_of(name: str, **changes: Any) -> dict[str, Tensor]:
    batch = FAMILIES[name].batch(labels=token_labels((3, 0, 1, 5)), **changes)
    if name == "bert-pretraining":
        batch["next_sentence_label"] = torch.tensor([0, 1, 1, 0])
    return batch


@pytest.mark.parametrize("name", [*MASKED, *CAUSAL])
@torch.no_grad()
def test_who_divides_by_the_count(name: str) -> None:
    """Against what the loss is: a mean whatever the count, or the sum over the count."""
    model, batch = FAMILIES[name].build(), batch_of(name)
    mean = model(**batch).loss
    one = model(**batch, num_items_in_batch=torch.tensor(9)).loss
    two = model(**batch, num_items_in_batch=torch.tensor(18)).loss
    assert mean > 0.5
    torch.testing.assert_close(one, mean)  # 9 are labelled
    torch.testing.assert_close(two, mean / 2 if name in DIVIDES else mean)
    assert divides_by_count(model, batch) == (name in DIVIDES)


@pytest.mark.parametrize(
    ("name", "divides"),
    [("bert-sequence", False), ("wav2vec2", False), ("vit", True), ("dinov2", True)],
)
@torch.no_grad()
def test_which_classifiers_divide_by_the_count(name: str, divides: bool) -> None:
    model, batch = FAMILIES[name].build(), FAMILIES[name].batch(labels=class_labels())
    mean = functional.cross_entropy(model(**batch).logits, batch["labels"])
    doubled = model(**batch, num_items_in_batch=torch.tensor(2 * BATCH)).loss
    torch.testing.assert_close(doubled, mean / 2 if divides else mean)
    assert divides_by_count(model, batch) == divides


@pytest.mark.parametrize("name", ["t5", "bart"])
@torch.no_grad()
def test_encoder_decoders_do_not_divide_by_the_count(name: str) -> None:
    labels = token_labels((3, 2, 1, 5))
    model, batch = FAMILIES[name].build(), {**FAMILIES["bert-mlm"].batch(), "labels": labels}
    outputs = model(**batch, num_items_in_batch=torch.tensor(2 * 11))
    mean = functional.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(outputs.loss, mean)
    assert not divides_by_count(model, batch)


def test_a_model_without_a_loss_of_its_own_is_left_alone() -> None:
    labels = {"labels": token_labels()}
    assert divides_by_count(lambda **_: {"logits": torch.zeros(2, 3)}, labels)
    assert divides_by_count(lambda **_: torch.tensor(1.0), labels)  # a bare tensor is no loss


def test_a_count_is_told_from_noise() -> None:
    """In bf16 a halved loss differs, an equal one may differ in its last digit."""

    def forward(scale: bool) -> Any:
        def call(labels: Tensor, num_items_in_batch: Tensor) -> dict[str, Tensor]:
            total = torch.tensor(18.0)
            count = num_items_in_batch if scale else 9 + 1e-4 * num_items_in_batch
            return {"loss": total / count}

        return call

    labels = {"labels": token_labels((3, 0, 1, 5))}
    assert divides_by_count(forward(True), labels)
    assert not divides_by_count(forward(False), labels)


def test_where_the_loss_is() -> None:
    loss, logits = torch.tensor(2.0), torch.zeros(2, 3)
    assert loss_of(MaskedLMOutput(loss=loss, logits=logits)) is loss
    assert loss_of((loss, logits)) is loss
    assert loss_of({"logits": logits}) is None
    assert loss_of((logits,)) is None
    assert loss_of(logits) is None


def asked_about(labels: Tensor, broken: tuple[int, ...] = ()) -> list[int] | None:
    """Which rows are chosen of a batch of which some make the loss NaN."""

    def forward(labels: Tensor, row: Tensor) -> dict[str, Tensor]:
        number = float("nan") if set(row.tolist()) & set(broken) else 1.0
        return {"loss": torch.tensor(number)}

    probe = rows_with_finite_loss(
        forward, {"labels": labels, "row": torch.arange(len(labels))}, label_counts(labels)
    )
    return None if probe is None else probe["row"].tolist()


def test_the_rows_with_the_most_labels_are_asked_about() -> None:
    assert asked_about(token_labels((3, 0, 1, 5))) == [3, 0]
    assert asked_about(token_labels((0, 2, 0, 0))[1:2]) == [0]
    assert asked_about(class_labels()) == [0, 1]


def test_rows_whose_loss_is_no_number_are_not_asked_about() -> None:
    assert asked_about(token_labels((3, 0, 1, 5)), broken=(0,)) == [2, 1]
    assert asked_about(token_labels((3, 0, 1, 5)), broken=(0, 1)) is None


def test_rows_are_asked_about_on_every_process_or_on_none() -> None:
    labels = token_labels((3, 0, 1, 5))
    answers = iter([False, True])  # of all processes, for the first rows and for the next
    seen = []

    def agreed(answer: bool) -> bool:
        seen.append(answer)
        return next(answers)

    forward = lambda **_: {"loss": torch.tensor(1.0)}  # noqa: E731
    batch = {"labels": labels, "row": torch.arange(4)}
    probe = rows_with_finite_loss(forward, batch, label_counts(labels), all_agree=agreed)
    assert seen == [True, True]
    assert probe is not None
    assert probe["row"].tolist() == [2, 1]


# ---- why_not_gathered ----


def reason_for(model: Any, batch: dict[str, Tensor], shifted: bool = False) -> str | None:
    head = LabelledHead.of(model)
    assert head is not None
    aligned = batch["labels"]
    if shifted:
        aligned = torch.cat([aligned[:, 1:], torch.full((len(aligned), 1), -100)], dim=1)
    with torch.no_grad():
        return why_not_gathered(model, batch, head.gather, aligned, shifted)


@pytest.mark.parametrize("name", [*MASKED, *CAUSAL])
@pytest.mark.parametrize("counts", [(3, 0, 1, 5), (1, 0, 0, 0), (11, 11, 11, 11)])
def test_these_models_take_the_labelled_head(name: str, counts: tuple[int, ...]) -> None:
    batch = {**batch_of(name), "labels": token_labels(counts, first=name in CAUSAL)}
    if name in CAUSAL and sum(counts) == 1:
        batch["labels"] = token_labels(counts)  # position 0 alone would be no target
    assert reason_for(FAMILIES[name].build(), batch, name in CAUSAL) is None


def test_deberta_with_its_own_head_takes_it_too() -> None:
    """It names a layer before the projection, which is as good a place to gather."""
    assert reason_for(FAMILIES["deberta-v2"].build(legacy=False), batch_of("deberta-v2")) is None


class Flipped(hf.BertForMaskedLM):
    """Gives its predictions in the opposite order, as a model read from right to left may."""

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> MaskedLMOutput:
        logits = super().forward(**inputs).logits.flip(1)
        return MaskedLMOutput(loss=_loss(logits, labels), logits=logits)


class Unhooked(hf.BertForMaskedLM):
    """Uses the weight of its output embeddings, not the module: a hook on it never fires."""

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> MaskedLMOutput:
        head = self.cls.predictions
        states = head.transform(self.bert(**inputs).last_hidden_state)
        logits = functional.linear(states, head.decoder.weight, head.bias)
        return MaskedLMOutput(loss=_loss(logits, labels), logits=logits)


class Reshaped(hf.BertForMaskedLM):
    """Insists on (batch, length, vocabulary)."""

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> MaskedLMOutput:
        logits = super().forward(**inputs).logits
        logits = logits.reshape(BATCH, LENGTH, -1)
        return MaskedLMOutput(loss=_loss(logits, labels), logits=logits)


class Regularised(hf.BertForMaskedLM):
    """Its loss has a term over the predictions that have no label."""

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> MaskedLMOutput:
        logits = super().forward(**inputs).logits
        loss = _loss(logits, labels) + logits.logsumexp(-1).square().mean()
        return MaskedLMOutput(loss=loss, logits=logits)


class Lossless(hf.BertForMaskedLM):
    def forward(self, labels: Tensor | None = None, **inputs: Any) -> MaskedLMOutput:
        return MaskedLMOutput(logits=super().forward(**inputs).logits)


def _loss(logits: Tensor, labels: Tensor | None) -> Tensor:
    labels = torch.full(logits.shape[:-1], -100) if labels is None else labels
    return functional.cross_entropy(logits.flatten(0, -2), labels.flatten())


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Flipped, "its logits at the labelled positions differ from the dense head's"),
        (Unhooked, "RuntimeError|ValueError"),
        (Reshaped, "RuntimeError: shape|ValueError: Expected input batch_size"),
        (Regularised, r"its loss differs from the dense head's \(.* for .*\)"),
        (Lossless, "it returns no loss of its own"),
    ],
)
@pytest.mark.parametrize("everything", [False, True])
def test_models_that_cannot_take_it_are_found_out(kind: Any, reason: str, everything: bool) -> None:
    """Also on a batch in which everything is labelled, where nothing would be left out."""
    family = FAMILIES["bert-mlm"]
    model = kind(family.config())
    model.load_state_dict(family.build().state_dict())
    model.eval()
    batch = batch_of("bert-mlm")
    if everything:
        batch["labels"] = batch["input_ids"]
    found = reason_for(model, batch)
    assert found is not None
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found)


@pytest.mark.parametrize("counts", [(3, 0, 1, 5), (4, 4, 4, 4), (3, 3, 3, 3), (1, 0, 0, 0)])
def test_modernbert_that_drops_positions_itself_is_found_out(counts: tuple[int, ...]) -> None:
    """``sparse_prediction`` gathers within the model, by labels that are gathered already."""
    model = FAMILIES["modernbert"].build()
    model.sparse_prediction = True
    batch = {**batch_of("modernbert"), "labels": token_labels(counts)}
    assert reason_for(model, batch) is not None


def test_without_a_label_there_is_nothing_to_try() -> None:
    batch = {**batch_of("bert-mlm"), "labels": token_labels((0, 0, 0, 0))}
    reason = reason_for(FAMILIES["bert-mlm"].build(), batch)
    assert reason == "the first batch has no labelled position to compare at"


def test_the_head_is_dense_again_afterwards_whatever_came_out() -> None:
    model = FAMILIES["modernbert"].build()
    model.sparse_prediction = True
    head = LabelledHead.of(model)
    assert head is not None
    batch = batch_of("modernbert")
    assert why_not_gathered(model, batch, head.gather, batch["labels"], shifted=False)
    assert head.positions is None


def test_a_fault_of_the_models_own_is_not_swallowed() -> None:
    """Only the gathered pass may fail: a model that fails on its own batch fails loudly."""

    def forward(**_: Any) -> Any:
        raise RuntimeError("the batch is not for this model")

    head = LabelledHead(nn.Linear(1, 1))
    with pytest.raises(RuntimeError, match="the batch is not for this model"):
        why_not_gathered(
            forward, {"labels": token_labels()}, head.gather, token_labels(), shifted=False
        )
