"""Leaving after block k equals the final norm and head, applied by hand to that block's output."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sift_trainer import early_exit
from tests.tiny import FAMILIES, LAYERS

EXITS = range(1, LAYERS + 1)
# Mamba's list starts with the first block's output instead of the embeddings.
FIRST_STATE = {"mamba": 1}


@contextmanager
def outputs_of(blocks: Any) -> Iterator[list[Tensor | None]]:
    """What each block returned, None where it was not called."""
    outputs: list[Tensor | None] = [None] * len(blocks)

    def record(number: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            outputs[number] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [block.register_forward_hook(record(i)) for i, block in enumerate(blocks)]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def logits(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return next(value for name, value in model(**batch).items() if name != "loss")


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_every_exit_equals_norm_and_head_on_the_hidden_states(name: str) -> None:
    """The output of block k is ``output_hidden_states[k]``, except the last, which most decoders
    publish after the final norm. No block after the exit is called."""
    family = FAMILIES[name]
    model, batch = family.build(), family.batch()
    blocks = model.get_submodule(family.blocks)
    with outputs_of(blocks) as hidden:
        whole = logits(model, batch)
    states = model(**batch, output_hidden_states=True)[family.states]
    for k in range(1, LAYERS):
        torch.testing.assert_close(hidden[k - 1], states[k - FIRST_STATE.get(name, 0)])
    found = []
    for k in EXITS:
        with outputs_of(blocks) as called, early_exit(model, k):
            found.append(logits(model, batch))
        assert [output is not None for output in called] == [number <= k for number in EXITS]
        expected = family.head(model, hidden[k - 1])
        torch.testing.assert_close(found[-1], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(found[-1], whole)
    with early_exit(model, -1):
        assert torch.equal(logits(model, batch), whole)
    # The exits differ by far more than the tolerance, or the comparison would show nothing.
    assert all((found[k] - found[k + 1]).abs().max() > 0.1 for k in range(LAYERS - 1))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_model_is_restored_also_after_an_exception(name: str) -> None:
    family = FAMILIES[name]
    model, batch = family.build(), family.batch()
    before = logits(model, batch)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    with early_exit(model, 1):
        assert list(model.state_dict()) == list(state)
    with pytest.raises(KeyboardInterrupt), early_exit(model, 2):
        raise KeyboardInterrupt
    assert torch.equal(logits(model, batch), before)
    assert len(model.get_submodule(family.blocks)) == LAYERS
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    assert all(parameters[key] is parameter for key, parameter in model.named_parameters())


def test_a_nested_exit_restores_the_outer_one() -> None:
    family = FAMILIES["bert-mlm"]
    model, batch = family.build(), family.batch()
    with early_exit(model, 2):
        outer = logits(model, batch)
        with early_exit(model, 1):
            assert not torch.allclose(logits(model, batch), outer, atol=0.1)
        assert torch.equal(logits(model, batch), outer)


@pytest.mark.parametrize(("name", "encoder"), [("t5", "encoder.block"), ("bart", "model.encoder")])
def test_the_encoder_of_an_encoder_decoder_runs_whole(name: str, encoder: str) -> None:
    family = FAMILIES[name]
    model = family.build()
    layers = model.get_submodule(encoder)
    layers = getattr(layers, "layers", layers)
    with outputs_of(layers) as hidden, early_exit(model, 1):
        logits(model, family.batch())
    assert len(hidden) == 2
    assert all(states is not None for states in hidden)
