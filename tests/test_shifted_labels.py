"""Whose loss compares a prediction with the next label."""

import math
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from sift_trainer.loss_contract import shifts_labels
from tests.tiny import BATCH, FAMILIES, LENGTH, PlainNet, text, token_labels

CAUSAL = {"gpt2", "llama", "qwen3", "mistral", "gemma2", "gpt-neox", "opt", "mamba"}


def nll(logits: list[float], target: int) -> float:
    top = max(logits)
    return top + math.log(sum(math.exp(z - top) for z in logits)) - logits[target]


def test_whose_labels_are_shifted() -> None:
    assert {name for name in FAMILIES if shifts_labels(FAMILIES[name].build())} == CAUSAL
    assert not shifts_labels(PlainNet())


class MyGPT2(hf.GPT2LMHeadModel):
    """A name that says nothing of what it is."""


class Wrapped(nn.Module):
    """As adapters wrap: a module that passes on what it lacks itself."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.config = model.config


@pytest.mark.parametrize("wrap", [lambda model: model, Wrapped])
def test_a_subclass_shifts_as_its_base_does(wrap: Any) -> None:
    model = MyGPT2(FAMILIES["gpt2"].config()).eval()
    labels = token_labels((3, 2, 1, 5))
    with torch.no_grad():
        outputs = model(**text(padded=False), labels=labels)
    places = [(r, t) for r in range(BATCH) for t in range(1, LENGTH) if labels[r, t] != -100]
    values = [nll(outputs.logits[r, t - 1].tolist(), int(labels[r, t])) for r, t in places]
    assert float(outputs.loss) == pytest.approx(sum(values) / len(values), rel=1e-5)
    assert shifts_labels(wrap(model))


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
    assert not shifts_labels(model)


class OwnForCausalLM(hf.GPT2PreTrainedModel):
    """A model of one's own, whose name gives it the shifting loss of Transformers."""


class OwnForMaskedLM(hf.GPT2PreTrainedModel):
    """Likewise with the other loss."""


def test_a_model_of_ones_own_shifts_if_its_loss_function_does() -> None:
    config = FAMILIES["gpt2"].config()
    assert OwnForCausalLM(config).loss_function.__name__ == "ForCausalLMLoss"
    assert shifts_labels(OwnForCausalLM(config))
    assert not shifts_labels(OwnForMaskedLM(config))
