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
from sift_trainer.early_exit.adapter import check_exit, logits_of
from sift_trainer.early_exit.registry import _REGISTERED
from tests.tiny import CLASSES, FAMILIES, LAYERS, PlainNet, text

EXITS = range(1, LAYERS + 1)


@pytest.fixture
def registry() -> Iterator[None]:
    before = dict(_REGISTERED)
    yield
    _REGISTERED.clear()
    _REGISTERED.update(before)


class Configured(PlainNet):
    """Not a Transformers model, though it calls its settings ``config``, as many do."""

    def __init__(self) -> None:
        super().__init__()
        self.config = type("Settings", (), {"num_layers": 3})()


def _convnext() -> nn.Module:
    return hf.ConvNextForImageClassification(
        hf.ConvNextConfig(patch_size=2, hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)
    )


@pytest.mark.parametrize("build", [_convnext, PlainNet, Configured])
def test_a_model_without_a_stack_of_like_blocks_is_refused(build: Any) -> None:
    model = build()
    looked_for = "looked for one nn.ModuleList of (2|config.num_hidden_layers) blocks"
    with pytest.raises(ValueError, match=looked_for) as error, early_exit(model, 1):
        pytest.fail("the context was entered")
    assert f"no early exit for {type(model).__name__}" in str(error.value)
    assert f"register_exit({type(model).__name__}, 'path.to.blocks')" in str(error.value)
    assert "sift_exit_layer=-1" in str(error.value)


@torch.no_grad()
def test_the_exact_output_is_to_be_had_of_any_model() -> None:
    model, ids = PlainNet(), text()["input_ids"]
    whole = model(ids)["logits"]
    with early_exit(model, -1):
        assert torch.equal(model(ids)["logits"], whole)


def test_two_stacks_that_fit_are_refused_by_name() -> None:
    model = FAMILIES["bert-mlm"].build()
    model.more = nn.ModuleList(nn.Linear(2, 2) for _ in range(LAYERS))
    with pytest.raises(ValueError, match=r"found 2 \(bert.encoder.layer, more\)"):
        exit_adapter(model)


@pytest.mark.parametrize("k", [0, LAYERS + 1, -2])
def test_an_exit_that_is_not_there_is_refused_with_the_range(k: int) -> None:
    model = FAMILIES["gpt2"].build()
    message = rf"exit layer {k} is not in GPT2LMHeadModel: it has 3 blocks, so use 1\.\.3, or -1"
    with pytest.raises(ValueError, match=message), early_exit(model, k):
        pytest.fail("the context was entered")
    assert [check_exit(k, 7, "x") for k in (1, 7, -1)] == [1, 7, 7]


# ---- register_exit ----


class PlainExit(ExitAdapter):
    """An adapter written as a user would: sets the blocks behind the exit aside."""

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


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("adapter", ["trunk.blocks", PlainExit])
@pytest.mark.parametrize("net", [PlainNet, Configured])
@torch.no_grad()
def test_a_registered_exit_equals_the_truncated_forward(adapter: Any, net: Any) -> None:
    register_exit(PlainNet, adapter)  # holds for its subclasses too
    model, ids = net(), text()["input_ids"]
    hidden = model.embedding(ids)
    whole = model(ids)["logits"]
    for k in EXITS:
        hidden = torch.tanh(torch.nn.functional.linear(hidden, *_linear(model, k - 1)))
        with early_exit(model, k):
            found = model(ids)["logits"]
        torch.testing.assert_close(found, hidden @ model.out.weight.T + model.out.bias)
    assert torch.equal(model(ids)["logits"], whole)
    with pytest.raises(ValueError, match=r"it has 3 blocks, so use 1\.\.3"), early_exit(model, 4):
        pytest.fail("the context was entered")


def _linear(model: Any, number: int) -> tuple[Tensor, Tensor]:
    linear = list(model.trunk.blocks)[number][0]
    return linear.weight, linear.bias


@pytest.mark.usefixtures("registry")
def test_a_registered_path_must_lead_to_a_module_list() -> None:
    register_exit(PlainNet, "out")
    with pytest.raises(ValueError, match=r"'out'\): that is a Linear; give the path of an nn.Mod"):
        exit_adapter(PlainNet())
    register_exit(PlainNet, "nowhere")
    with pytest.raises((ValueError, AttributeError), match="nowhere"):
        exit_adapter(PlainNet())


@pytest.mark.usefixtures("registry")
def test_a_registered_exit_goes_before_the_structure_and_the_nearest_class_wins() -> None:
    model = FAMILIES["bert-sequence"].build()
    register_exit(hf.BertPreTrainedModel, "classifier")
    with pytest.raises(ValueError, match="that is a Linear"):
        exit_adapter(model)
    register_exit(hf.BertForSequenceClassification, "bert.encoder.layer")
    assert exit_adapter(model).depth == LAYERS


def test_what_counts_as_logits() -> None:
    loss, scores, other = torch.tensor(1.0), torch.ones(2, CLASSES), torch.zeros(2, 7)
    assert logits_of({"loss": loss, "extra": other, "logits": scores}, "M") is scores
    assert logits_of({"loss": loss, "prediction_logits": scores, "b": other}, "M") is scores
    assert logits_of((loss, scores, other), "M") is scores
    assert logits_of(scores, "M") is scores
    for nothing in ({"loss": loss}, (loss,), None):
        with pytest.raises(ValueError, match="Net returned no logits"):
            logits_of(nothing, "Net")
