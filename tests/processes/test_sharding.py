"""What sharding requires of a model, as far as one process shows it; tests/distributed/ has two."""

from contextlib import suppress
from typing import Any

import pytest
import torch
from accelerate import ParallelismConfig

from sift_trainer import SiftArguments
from sift_trainer.checks.setup import check_parallelism
from sift_trainer.early_exit.blocks import find_blocks
from sift_trainer.early_exit.labelled_head import LabelledHead
from sift_trainer.early_exit.registry import exit_adapter, labelled_last_block
from sift_trainer.processes.sharding import tied_in_one_group
from sift_trainer.scoring.positions import scored_positions
from tests.tiny import FAMILIES, token_labels

# Read off the classes: a bias that is the head's own parameter too; in T5 and BART the embeddings
# of encoder and decoder.
TIED_BEYOND_THE_EMBEDDINGS = {
    *("bert-pretraining", "bert-mlm", "roberta", "deberta-v2"),
    *("t5", "bart"),
}


@pytest.mark.parametrize("name", [*sorted(TIED_BEYOND_THE_EMBEDDINGS), "electra", "gpt2", "vit"])
def test_embeddings_are_hidden_where_they_are_tied_to_more(name: str) -> None:
    """They are back afterwards, also after an exception."""
    model = FAMILIES[name].build()
    embeddings = model.get_input_embeddings(), model.get_output_embeddings()
    hidden = name in TIED_BEYOND_THE_EMBEDDINGS
    with suppress(KeyboardInterrupt), tied_in_one_group(model):
        assert (model.get_input_embeddings() is None) == hidden
        assert model.get_output_embeddings() is (None if hidden else embeddings[1])
        raise KeyboardInterrupt
    assert model.get_input_embeddings() is embeddings[0]
    assert model.get_output_embeddings() is embeddings[1]


def test_blocks_whose_parameters_zero_3_has_emptied_are_alike() -> None:
    """Some are gathered at the moment, others not: what counts is their whole shape."""
    model = FAMILIES["bert-mlm"].build()
    for parameter in model.bert.encoder.layer[0].parameters():
        parameter.ds_shape = parameter.shape
        parameter.data = torch.empty(0)
    assert find_blocks(model) is model.bert.encoder.layer


def test_a_pruned_block_is_called_as_a_module() -> None:
    """That is when hooks gather the parameters."""
    family = FAMILIES["bert-mlm"]
    model, batch, calls = family.build(), family.batch(), []
    blocks = list(model.bert.encoder.layer)
    for number, block in enumerate(blocks, start=1):
        block.register_forward_pre_hook(lambda *_, number=number: calls.append(number))
    adapter, head = exit_adapter(model), LabelledHead.of(model)
    assert head is not None
    positions = scored_positions(token_labels((3, 0, 1, 5)))
    with adapter.at(2, positions):
        model(**batch)
    last_block = labelled_last_block(model, head)
    assert last_block is not None
    with last_block.gather(positions, shifted=False):
        model(**batch)
    assert calls == [1, 2, 1, 2, 3]
    assert all("forward" not in vars(block) for block in blocks)


def test_a_blocks_own_forward_is_back_afterwards_also_after_an_exception() -> None:
    """As those have whose weights are moved by hooks."""
    model = FAMILIES["bert-mlm"].build()
    block: Any = model.bert.encoder.layer[0]
    block.forward = own = block.forward
    with (
        suppress(KeyboardInterrupt),
        exit_adapter(model).at(1, scored_positions(torch.tensor([[5, -100]]))),
    ):
        assert block.forward is not own
        raise KeyboardInterrupt
    assert vars(block)["forward"] is own


@pytest.mark.parametrize("name", ["tp_size", "cp_size", "sp_size"])
def test_processes_that_share_samples_are_refused(name: str) -> None:
    backend = {"sp_backend": "deepspeed"} if name == "sp_size" else {}
    shared = ParallelismConfig(**{name: 2, "dp_shard_size": 2}, **backend)
    with pytest.raises(ValueError, match=rf"parallelism_config has .*'{name}': 2"):
        check_parallelism(SiftArguments(), shared)
    check_parallelism(SiftArguments(), ParallelismConfig(dp_replicate_size=2, dp_shard_size=2))
    check_parallelism(SiftArguments(), None)
