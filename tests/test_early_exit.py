"""Leaving after block k equals the final norm and head, applied by hand to that block's output."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sift_trainer import early_exit
from sift_trainer.early_exit.blocks import TruncatableModuleList
from tests.tiny import FAMILIES, LAYERS

EXITS = range(1, LAYERS + 1)
# Mamba's list starts with the first block's output instead of the embeddings.
FIRST_STATE = {"mamba": 1}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Any:
    return FAMILIES[request.param]


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


@torch.no_grad()
def test_every_exit_equals_norm_and_head_on_that_blocks_output(family: Any) -> None:
    model, batch = family.build(), family.batch()
    with outputs_of(model.get_submodule(family.blocks)) as hidden:
        whole = logits(model, batch)
    expected = [family.head(model, states) for states in hidden]
    found = []
    for k in (*EXITS, -1):
        with early_exit(model, k):
            found.append(logits(model, batch))
    whole_again = found.pop()  # -1
    for wanted, got in zip(expected, found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(found[-1], whole)
    assert torch.equal(whole_again, whole)
    # The exits must differ by far more than that tolerance, or the comparison says nothing.
    assert all((found[k] - found[k + 1]).abs().max() > 0.1 for k in range(LAYERS - 1))


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_the_block_outputs_are_the_published_hidden_states(name: str) -> None:
    """What the test above calls the output of block k is ``output_hidden_states[k]``. The last of
    these is left out: most decoders publish it after the final norm."""
    family = FAMILIES[name]
    model, batch = family.build(), family.batch()
    with outputs_of(model.get_submodule(family.blocks)) as hidden:
        states = model(**batch, output_hidden_states=True)[family.states]
    for k in range(1, LAYERS):
        torch.testing.assert_close(hidden[k - 1], states[k - FIRST_STATE.get(name, 0)])


@torch.no_grad()
def test_no_block_after_the_exit_is_called(family: Any) -> None:
    model, batch = family.build(), family.batch()
    for k in EXITS:
        with outputs_of(model.get_submodule(family.blocks)) as hidden, early_exit(model, k):
            logits(model, batch)
        assert [states is not None for states in hidden] == [number <= k for number in EXITS]


def test_the_model_is_as_before_afterwards_even_after_an_exception(family: Any) -> None:
    model, batch = family.build(), family.batch()
    before = logits(model, batch)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = list(model.named_parameters())
    with early_exit(model, 1):
        assert list(model.state_dict()) == list(state)
        assert [name for name, _ in model.named_parameters()] == [name for name, _ in parameters]
        logits(model, batch)
    torch.testing.assert_close(logits(model, batch), before, rtol=0, atol=0)
    with pytest.raises(KeyboardInterrupt), early_exit(model, 2):
        raise KeyboardInterrupt
    torch.testing.assert_close(logits(model, batch), before, rtol=0, atol=0)
    assert len(model.get_submodule(family.blocks)) == LAYERS
    after = model.state_dict()
    assert list(after) == list(state)
    assert all(torch.equal(after[name], value) for name, value in state.items())
    assert all(
        name == other and parameter is same
        for (name, parameter), (other, same) in zip(
            parameters, model.named_parameters(), strict=True
        )
    )


@torch.no_grad()
def test_an_exit_within_an_exit_gives_the_outer_one_back() -> None:
    family = FAMILIES["bert-mlm"]
    model, batch = family.build(), family.batch()
    with early_exit(model, 2):
        outer = logits(model, batch)
        with early_exit(model, 1):
            assert not torch.allclose(logits(model, batch), outer, atol=0.1)
        assert torch.equal(logits(model, batch), outer)


@torch.no_grad()
def test_question_answering_exits_with_both_its_logits() -> None:
    family = FAMILIES["bert-qa"]
    model, batch = family.build(), family.batch()
    with outputs_of(model.bert.encoder.layer) as hidden:
        model(**batch)
    with early_exit(model, 1):
        outputs = model(**batch)
    starts, ends = model.qa_outputs(hidden[0]).unbind(dim=-1)
    torch.testing.assert_close(outputs.start_logits, starts)
    torch.testing.assert_close(outputs.end_logits, ends)


def test_the_encoder_of_an_encoder_decoder_is_left_alone() -> None:
    for name, encoder in {"t5": "encoder.block", "bart": "model.encoder.layers"}.items():
        family = FAMILIES[name]
        model = family.build()
        with outputs_of(model.get_submodule(encoder)) as hidden, early_exit(model, 1):
            logits(model, family.batch())
        assert len(hidden) == 2
        assert all(states is not None for states in hidden)


def test_a_truncated_list_reads_like_a_shorter_one() -> None:
    blocks = TruncatableModuleList(nn.Linear(1, 1) for _ in range(4))
    everything = list(blocks)
    blocks.exit_at = 2
    assert len(blocks) == 2
    assert list(blocks) == everything[:2]
    assert list(blocks[:4]) == everything[:2]
    assert [blocks[0], blocks[-1]] == everything[:2]
    with pytest.raises(IndexError):
        blocks[2]
    assert list(blocks.children()) == everything
