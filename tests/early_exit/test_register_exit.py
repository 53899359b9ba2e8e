"""Models without a stack of like blocks are refused, and can be registered."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from sift_trainer import early_exit, register_exit
from sift_trainer.early_exit import ExitAdapter, exit_adapter
from sift_trainer.early_exit.adapter import logits_of
from sift_trainer.early_exit.registry import _REGISTERED
from tests.tiny import CLASSES, FAMILIES, LAYERS, PlainNet, text


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    before = dict(_REGISTERED)
    yield
    _REGISTERED.clear()
    _REGISTERED.update(before)


class Configured(PlainNet):
    """Not a Transformers model, though its settings are called ``config``."""

    def __init__(self) -> None:
        super().__init__()
        self.config = type("Settings", (), {"num_layers": 3})()


def _convnext() -> nn.Module:
    return hf.ConvNextForImageClassification(
        hf.ConvNextConfig(patch_size=2, hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)
    )


def _two_stacks() -> nn.Module:
    model = FAMILIES["bert-mlm"].build()
    model.more = nn.ModuleList(nn.Linear(2, 2) for _ in range(LAYERS))
    return model


@pytest.mark.parametrize(
    ("build", "found"),
    [
        (_convnext, "found none"),
        (Configured, "found none"),
        (_two_stacks, r"found 2 \(bert.encoder.layer, more\)"),
    ],
)
def test_a_model_without_one_stack_of_like_blocks_is_refused(build: Any, found: str) -> None:
    model = build()
    name = type(model).__name__
    with pytest.raises(ValueError, match=found) as error, early_exit(model, 1):
        pytest.fail("the context was entered")
    assert f"no early exit for {name}" in str(error.value)
    assert f"register_exit({name}, 'path.to.blocks')" in str(error.value)
    assert "sift_exit_layer=-1" in str(error.value)


@pytest.mark.parametrize("k", [0, LAYERS + 1, -2])
def test_an_exit_beyond_the_model_is_refused_with_the_range(k: int) -> None:
    model = FAMILIES["gpt2"].build()
    with (
        pytest.raises(ValueError, match=rf"exit layer {k} .* 3 blocks, so use 1\.\.3, or -1"),
        early_exit(model, k),
    ):
        pytest.fail("the context was entered")


class PlainExit(ExitAdapter):
    """An adapter as a user writes it: it sets the blocks behind the exit aside."""

    @property
    def depth(self) -> int:
        return len(self.model.trunk.blocks)

    @contextmanager
    def at(self, k: int, positions: Tensor | None = None) -> Iterator[None]:
        blocks = self.model.trunk.blocks
        self.model.trunk.blocks = blocks[:k]
        try:
            yield
        finally:
            self.model.trunk.blocks = blocks


@pytest.mark.parametrize("adapter", ["trunk.blocks", PlainExit])
@torch.no_grad()
def test_a_registered_exit_equals_the_truncated_forward(adapter: Any) -> None:
    """Registered for a base class. Exit -1 needs no registration."""
    model, ids = Configured(), text()["input_ids"]
    whole = model(ids)["logits"]
    with early_exit(model, -1):
        assert torch.equal(model(ids)["logits"], whole)
    register_exit(PlainNet, adapter)
    hidden = model.embedding(ids)
    for k, block in enumerate(list(model.trunk.blocks), start=1):
        hidden = torch.tanh(hidden @ block[0].weight.T + block[0].bias)
        with early_exit(model, k):
            found = model(ids)["logits"]
        torch.testing.assert_close(found, hidden @ model.out.weight.T + model.out.bias)
    assert torch.equal(model(ids)["logits"], whole)
    with pytest.raises(ValueError, match="it has 3 blocks"), early_exit(model, 4):
        pytest.fail("the context was entered")


def test_a_registered_exit_goes_before_the_structure_and_the_nearest_class_wins() -> None:
    model = FAMILIES["bert-sequence"].build()
    register_exit(hf.BertPreTrainedModel, "classifier")
    with pytest.raises(ValueError, match="that is a Linear"):
        exit_adapter(model)
    register_exit(hf.BertForSequenceClassification, "bert.encoder.layer")
    assert exit_adapter(model).depth == LAYERS


def test_what_counts_as_logits() -> None:
    loss, scores, other = torch.tensor(1.0), torch.ones(2, CLASSES), torch.zeros(2, 7)
    for outputs in (
        {"loss": loss, "extra": other, "logits": scores},
        {"loss": loss, "prediction_logits": scores, "b": other},
        (loss, scores, other),
        scores,
    ):
        assert logits_of(outputs, "Net") is scores
    for nothing in ({"loss": loss}, (loss,), None):
        with pytest.raises(ValueError, match="Net returned no logits"):
            logits_of(nothing, "Net")
