"""Whose loss compares a prediction with the next label."""

import math
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from sift_trainer.sifted_model.questions import shifts_labels
from tests.tiny import BATCH, FAMILIES, LENGTH, class_labels, text, token_labels

CAUSAL = {"gpt2", "llama", "qwen3", "mistral", "gemma2", "gpt-neox", "opt", "mamba"}


def nll(logits: list[float], target: int) -> float:
    top = max(logits)
    return top + math.log(sum(math.exp(z - top) for z in logits)) - logits[target]


def shifts(model: Any, inputs: dict[str, Any], labels: Any) -> bool:
    with torch.no_grad():
        return shifts_labels(model, {**inputs, "labels": labels})


TOKEN_HEADS = [name for name in FAMILIES if FAMILIES[name].build().get_output_embeddings()]


@pytest.mark.parametrize("name", TOKEN_HEADS)
def test_whose_labels_are_shifted(name: str) -> None:
    family = FAMILIES[name]
    model, labels = family.build(), token_labels((3, 2, 1, 5))
    if not model.config.is_encoder_decoder:
        assert shifts(model, family.batch(), labels) == (name in CAUSAL)


def test_labels_of_whole_samples_and_models_without_a_loss_are_not_shifted() -> None:
    assert not shifts(FAMILIES["bert-sequence"].build(), text(), class_labels())

    def no_loss(labels: Any, **inputs: Any) -> dict[str, Any]:
        return {"logits": labels}

    assert not shifts(no_loss, text(), token_labels((3, 2, 1, 5)))


def test_a_head_of_zeros_does_not_hide_it() -> None:
    model = FAMILIES["bert-mlm"].build()
    head = model.get_output_embeddings()
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    assert not shifts(model, text(), token_labels((3, 2, 1, 5)))


class MyGPT2(hf.GPT2LMHeadModel):
    """A name that says nothing of what it is."""


class Wrapped(nn.Module):
    """As adapters wrap: a module that passes on what it lacks itself."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.config = model.config

    def forward(self, **inputs: Any) -> Any:
        return self.model(**inputs)


@pytest.mark.parametrize("wrap", [lambda model: model, Wrapped])
def test_a_subclass_shifts_as_its_base_does(wrap: Any) -> None:
    model = MyGPT2(FAMILIES["gpt2"].config()).eval()
    labels = token_labels((3, 2, 1, 5))
    with torch.no_grad():
        outputs = model(**text(padded=False), labels=labels)
    places = [(r, t) for r in range(BATCH) for t in range(1, LENGTH) if labels[r, t] != -100]
    values = [nll(outputs.logits[r, t - 1].tolist(), int(labels[r, t])) for r, t in places]
    assert float(outputs.loss) == pytest.approx(sum(values) / len(values), rel=1e-5)
    assert shifts(wrap(model), text(padded=False), labels)


def test_decoders_whose_labels_come_shifted_are_not_shifted_again() -> None:
    config = FAMILIES["bart"].config()
    config.encoder_layers = config.decoder_layers  # its cache is as deep as the encoder it has not
    model = hf.BartForCausalLM(config).eval()
    inputs, labels = text(padded=False), token_labels((3, 2, 1, 5))
    with torch.no_grad():
        outputs = model(**inputs, labels=labels)
    places = [(r, t) for r in range(BATCH) for t in range(LENGTH) if labels[r, t] != -100]
    values = [nll(outputs.logits[r, t].tolist(), int(labels[r, t])) for r, t in places]
    assert float(outputs.loss) == pytest.approx(sum(values) / len(values), rel=1e-5)
    assert not shifts(model, inputs, labels)
