"""What sharding asks of a model, as far as one process shows it; tests/distributed/ has two."""

from typing import Any

import pytest
import torch
from accelerate import Accelerator, ParallelismConfig

from sift_trainer import SiftArguments
from sift_trainer.checks.setup import check_parallelism
from sift_trainer.early_exit import exit_adapter, labelled_last_block
from sift_trainer.early_exit.blocks import find_blocks
from sift_trainer.early_exit.labelled_head import LabelledHead
from sift_trainer.processes.sharding import tied_in_one_group, unanimous
from sift_trainer.scoring.positions import scored_positions
from tests.tiny import FAMILIES, PlainNet, token_labels

# Read off the classes: a bias that is the head's own parameter too; in T5 and BART the embeddings
# of encoder and decoder.
TIED_BEYOND_THE_EMBEDDINGS = {
    *("bert-pretraining", "bert-mlm", "roberta", "deberta-v2"),
    *("t5", "bart"),
}


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "wav2vec2"])  # has none
def test_embeddings_are_hidden_where_they_are_tied_to_more(name: str) -> None:
    model = FAMILIES[name].build()
    embeddings = model.get_input_embeddings()
    with tied_in_one_group(model):
        hidden = model.get_input_embeddings() is None
        assert (model.get_output_embeddings() is None) or not hidden
    assert hidden == (name in TIED_BEYOND_THE_EMBEDDINGS)
    assert model.get_input_embeddings() is embeddings
    assert "get_output_embeddings" not in vars(model)


def test_nothing_is_hidden_of_a_model_without_output_embeddings() -> None:
    with tied_in_one_group(model := PlainNet()):
        assert not hasattr(model, "get_output_embeddings")


def test_embeddings_are_back_after_a_failure() -> None:
    model = FAMILIES["bert-mlm"].build()
    with pytest.raises(RuntimeError, match="wrapping"), tied_in_one_group(model):
        raise RuntimeError("wrapping")
    assert model.get_output_embeddings() is model.cls.predictions.decoder


def test_one_process_agrees_with_itself() -> None:
    agreed = unanimous(Accelerator(cpu=True))
    assert agreed(True) is True
    assert agreed(False) is False


def test_blocks_whose_parameters_zero_3_has_emptied_are_alike() -> None:
    """Some are gathered at the moment, others not: what counts is their whole shape."""
    model = FAMILIES["bert-mlm"].build()
    for parameter in model.bert.encoder.layer[0].parameters():
        parameter.ds_shape = parameter.shape
        parameter.data = torch.empty(0)
    assert find_blocks(model) is model.bert.encoder.layer


def called(model: Any, batch: dict[str, Any]) -> list[int]:
    """Numbers of the blocks that a pass calls as modules, which is when hooks gather parameters."""
    calls: list[int] = []
    blocks = list(model.bert.encoder.layer._modules.values())
    handles = [
        block.register_forward_pre_hook(lambda *_, number=number: calls.append(number))
        for number, block in enumerate(blocks, start=1)
    ]
    model(**batch)
    for handle in handles:
        handle.remove()
    return calls


def test_a_pruned_block_is_called_as_a_module() -> None:
    family = FAMILIES["bert-mlm"]
    model, batch = family.build(), family.batch()
    adapter, head = exit_adapter(model), LabelledHead.of(model)
    assert head is not None
    depth = adapter.depth
    positions = scored_positions(token_labels((3, 0, 1, 5)))
    with adapter.at(2, positions):
        assert called(model, batch) == [1, 2]
    last_block = labelled_last_block(model, head)
    assert last_block is not None
    with last_block.gather(positions, shifted=False):
        assert called(model, batch) == list(range(1, depth + 1))
    assert all("forward" not in vars(block) for block in model.bert.encoder.layer)


@pytest.mark.parametrize("fails", [False, True])
def test_a_forward_of_the_blocks_own_is_back_afterwards(fails: bool) -> None:
    """As those have whose weights are moved about by hooks."""
    model = FAMILIES["bert-mlm"].build()
    block = model.bert.encoder.layer[0]
    block.forward = own = block.forward
    positions = scored_positions(torch.tensor([[5, -100]]))
    if fails:
        with pytest.raises(RuntimeError), exit_adapter(model).at(1, positions):
            raise RuntimeError
    else:
        with exit_adapter(model).at(1, positions):
            assert block.forward is not own
    assert vars(block)["forward"] is own


@pytest.mark.parametrize("name", ["tp_size", "cp_size", "sp_size"])
def test_processes_that_share_rows_are_refused(name: str) -> None:
    sizes = {name: 2, "dp_shard_size": 2}
    if name == "sp_size":
        sizes["sp_backend"] = "deepspeed"
    shared = ParallelismConfig(**sizes)
    with pytest.raises(ValueError, match=rf"parallelism_config has .*'{name}': 2.*use 1 for these"):
        check_parallelism(SiftArguments(), shared)
    check_parallelism(SiftArguments(sift_keep_ratio=1.0), shared)
    check_parallelism(SiftArguments(), ParallelismConfig(dp_replicate_size=2, dp_shard_size=2))
    check_parallelism(SiftArguments(), None)
