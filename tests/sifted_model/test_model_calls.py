"""What a model does with its labels is found out by calling it, and the answer is right."""

from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import MaskedLMOutput

from sift_trainer.early_exit.labelled_head import LabelledHead
from sift_trainer.scoring.positions import aligned_labels, label_counts
from sift_trainer.sifted_model.model_calls import (
    divides_by_count,
    rows_with_finite_loss,
    shifts_labels,
    why_not_gathered,
)
from tests.tiny import BATCH, FAMILIES, LENGTH, class_labels, text, token_labels

CAUSAL = ("gpt2", "llama", "qwen3", "mistral", "gemma2", "gpt-neox", "opt", "mamba")
MASKED = (
    "bert-pretraining", "bert-mlm", "roberta", "electra", "distilbert", "deberta-v2", "modernbert"
)  # fmt: skip
DIVIDES = {"modernbert", *CAUSAL, "vit", "dinov2"}
OTHERS = ("bert-sequence", "wav2vec2", "vit", "dinov2", "t5", "bart")
ALL_LABELLED = (3, 2, 1, 5)


def batch_of(name: str) -> dict[str, Tensor]:
    if name in ("t5", "bart"):  # which make the decoder's inputs of the labels
        return {**text(), "labels": token_labels(ALL_LABELLED)}
    batch = FAMILIES[name].batch(labels=class_labels() if name in OTHERS else token_labels())
    if name == "bert-pretraining":
        batch["next_sentence_label"] = torch.tensor([0, 1, 1, 0])
    return batch


@pytest.mark.parametrize("name", [*MASKED, *CAUSAL, *OTHERS])
@torch.no_grad()
def test_which_models_divide_by_the_count_and_which_shift_their_labels(name: str) -> None:
    """A loss is a mean whatever the count is, or the sum over the count."""
    model, batch = FAMILIES[name].build(), batch_of(name)
    labelled = label_counts(batch["labels"]).sum()
    mean = model(**batch).loss
    torch.testing.assert_close(model(**batch, num_items_in_batch=labelled).loss, mean)
    doubled = model(**batch, num_items_in_batch=2 * labelled).loss
    torch.testing.assert_close(doubled, mean / 2 if name in DIVIDES else mean)
    assert divides_by_count(model, batch) == (name in DIVIDES)
    if name not in ("t5", "bart"):
        assert shifts_labels(model, batch) == (name in CAUSAL)


def test_a_model_without_a_loss_of_its_own() -> None:
    batch = {**text(), "labels": token_labels()}
    for outputs in ({"logits": torch.zeros(2, 3)}, torch.tensor(1.0)):  # a bare tensor is no loss
        assert divides_by_count(lambda **_: outputs, batch)  # noqa: B023
        assert not shifts_labels(lambda **_: outputs, batch)  # noqa: B023


# ---- shifted labels ----


class MyGPT2(hf.GPT2LMHeadModel):
    """A name that says nothing of what it is."""


class Wrapped(nn.Module):
    """Passes on what it lacks itself, as adapters do."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.config = model.config

    def forward(self, **inputs: Any) -> Any:
        return self.model(**inputs)


def bart_decoder() -> Any:
    """Its labels come shifted."""
    config = FAMILIES["bart"].config()
    config.encoder_layers = config.decoder_layers  # its cache is as deep as the encoder it has not
    return hf.BartForCausalLM(config)


@pytest.mark.parametrize(
    ("build", "shift"),
    [
        (lambda: MyGPT2(FAMILIES["gpt2"].config()), 1),
        (lambda: Wrapped(MyGPT2(FAMILIES["gpt2"].config())), 1),
        (bart_decoder, 0),
    ],
)
@torch.no_grad()
def test_shifting_is_found_by_the_loss_and_not_by_the_name(build: Any, shift: int) -> None:
    model, inputs, labels = build().eval(), text(padded=False), token_labels(ALL_LABELLED)
    outputs = model(**inputs, labels=labels)
    logits = outputs.logits[:, : LENGTH - shift].flatten(0, 1)
    expected = functional.cross_entropy(logits, labels[:, shift:].flatten())
    torch.testing.assert_close(outputs.loss, expected)
    assert shifts_labels(model, {**inputs, "labels": labels}) == bool(shift)


# ---- the rows of a probe ----


def rows_of_probe(broken: tuple[int, ...] = (), others: tuple[bool, ...] = ()) -> list[int] | None:
    """Rows chosen of a batch of which some make the loss NaN; ``others``: what the other processes
    answer for the first pairs of rows."""
    answers = iter(others)

    def forward(labels: Tensor, row: Tensor) -> dict[str, Tensor]:
        return {"loss": torch.tensor(float("nan") if set(row.tolist()) & set(broken) else 1.0)}

    batch = {"labels": token_labels((3, 0, 1, 5)), "row": torch.arange(BATCH)}
    counts = label_counts(batch["labels"])
    probe = rows_with_finite_loss(
        forward, batch, counts, all_agree=lambda answer: answer and next(answers, True)
    )
    return None if probe is None else probe["row"].tolist()


def test_a_probe_takes_the_rows_with_the_most_labels_and_a_finite_loss() -> None:
    assert rows_of_probe() == [3, 0]
    assert rows_of_probe(broken=(0,)) == [2, 1]
    assert rows_of_probe(broken=(0, 1)) is None
    assert rows_of_probe(others=(False, True)) == [2, 1]
    assert rows_of_probe(others=(False, False)) is None


# ---- the labelled-only head ----


def reason_for(model: Any, batch: dict[str, Tensor], shifted: bool = False) -> str | None:
    head = LabelledHead.of(model)
    assert head is not None
    with torch.no_grad():
        aligned = aligned_labels(batch["labels"], shifted)
        reason = why_not_gathered(model, batch, head.gather, aligned, shifted)
    assert head.positions is None  # whatever the answer is
    return reason


def _loss(logits: Tensor, labels: Tensor | None) -> Tensor:
    labels = torch.full(logits.shape[:-1], -100) if labels is None else labels
    return functional.cross_entropy(logits.flatten(0, -2), labels.flatten())


class Own(hf.BertForMaskedLM):
    """Changes the logits, or the loss."""

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> MaskedLMOutput:
        logits = self.changed(super().forward(**inputs).logits)
        return MaskedLMOutput(loss=_loss(logits, labels) + self.more(logits), logits=logits)

    def changed(self, logits: Tensor) -> Tensor:
        return logits

    def more(self, logits: Tensor) -> Tensor | float:
        return 0.0


class Flipped(Own):
    """Gives its predictions in the opposite order, as a model read from right to left may."""

    def changed(self, logits: Tensor) -> Tensor:
        return logits.flip(1)


class Regularised(Own):
    """Its loss has a term over the predictions that have no label."""

    def more(self, logits: Tensor) -> Tensor | float:
        return logits.logsumexp(-1).square().mean()


class Unhooked(hf.BertForMaskedLM):
    """Uses the weight of its output embeddings, not the module: a hook on it never fires."""

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> MaskedLMOutput:
        head = self.cls.predictions
        states = head.transform(self.bert(**inputs).last_hidden_state)
        logits = functional.linear(states, head.decoder.weight, head.bias)
        return MaskedLMOutput(loss=_loss(logits, labels), logits=logits)


class Lossless(hf.BertForMaskedLM):
    def forward(self, labels: Tensor | None = None, **inputs: Any) -> MaskedLMOutput:
        return MaskedLMOutput(logits=super().forward(**inputs).logits)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Flipped, "its logits at the labelled positions differ"),
        (Unhooked, "Error: "),
        (Regularised, "its loss differs"),
        (Lossless, "no loss of its own"),
    ],
)
def test_models_that_cannot_take_the_labelled_head_are_found_out(kind: Any, reason: str) -> None:
    """Also on a batch in which everything is labelled, where nothing would be left out."""
    family = FAMILIES["bert-mlm"]
    model = kind(family.config()).eval()
    model.load_state_dict(family.build().state_dict())
    batch = batch_of("bert-mlm")
    for labels in (batch["labels"], batch["input_ids"]):
        assert reason in (reason_for(model, {**batch, "labels": labels}) or "")


@pytest.mark.parametrize("counts", [(3, 0, 1, 5), (4, 4, 4, 4), (1, 0, 0, 0)])
def test_modernbert_that_drops_positions_itself_is_found_out(counts: tuple[int, ...]) -> None:
    """``sparse_prediction`` gathers within the model, by labels that are gathered already."""
    model = FAMILIES["modernbert"].build()
    model.sparse_prediction = True
    assert reason_for(model, {**batch_of("modernbert"), "labels": token_labels(counts)})


def test_a_model_that_fails_on_its_own_batch_fails_loudly() -> None:
    def forward(**_: Any) -> Any:
        raise RuntimeError("the batch is not for this model")

    head, labels = LabelledHead(nn.Linear(1, 1)), token_labels()
    with pytest.raises(RuntimeError, match="the batch is not for this model"):
        why_not_gathered(forward, {"labels": labels}, head.gather, labels, shifted=False)
