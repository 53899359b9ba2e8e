"""The memory that is counted without data equals what a real forward keeps."""

from contextlib import nullcontext

import pytest
import torch
from transformers import BertConfig, BertForPreTraining

from sift_trainer import SiftArguments
from sift_trainer.reproduction.bert.activation_memory import SavedTensors, activation_bytes
from sift_trainer.sifted_model.facts import ModelPasses
from sift_trainer.sifted_model.model import SiftedModel
from sift_trainer.sifted_model.trained_loss import TrainedLoss

ROWS, LENGTH, LABELS = 4, 64, 9
CELLS = ROWS * LENGTH


def config(implementation="sdpa", dropout=0.1, **more):
    return BertConfig(
        **{
            "hidden_size": 64,
            "intermediate_size": 192,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "vocab_size": 500,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
            "attn_implementation": implementation,
            **more,
        }
    )


def batch():
    """LABELS labels in each row, none at the first position."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 500, (ROWS, LENGTH), generator=generator)
    order = torch.rand(ROWS, LENGTH - 1, generator=generator).argsort(dim=1) + 1
    labelled = torch.zeros_like(ids, dtype=torch.bool).scatter_(1, order[:, :LABELS], True)
    return {
        "input_ids": ids,
        "token_type_ids": torch.zeros_like(ids),
        "labels": ids.masked_fill(~labelled, -100),
        "next_sentence_label": torch.arange(ROWS) % 2,
    }


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_real_forward_on_a_cpu_keeps_the_same(implementation, dropout):
    model = BertForPreTraining(config(implementation, dropout)).train()
    saved = SavedTensors(model)
    with saved.counted():
        model(**batch())
    expected = activation_bytes(
        model.config, ROWS, LENGTH, ROWS * LABELS, labelled_only=False, on_gpu=False
    )
    assert saved.bytes == expected


def test_a_real_labelled_forward_keeps_the_same():
    model = BertForPreTraining(config()).train()
    loss = TrainedLoss(takes_count=True)
    sifted = SiftedModel.probed(ModelPasses(model, model), batch(), SiftArguments(), loss)
    saved = SavedTensors(model)
    with sifted.labelled_only(batch()) as narrowed, saved.counted():
        model(**narrowed)
    counted = activation_bytes(
        model.config, ROWS, LENGTH, ROWS * LABELS, labelled_only=True, on_gpu=False
    )
    assert counted == saved.bytes


def test_a_block_on_a_gpu_by_hand():
    """Numbers in fp32, and one byte per element for dropout. No (T, T) matrix is kept."""
    shape = {"labelled_only": False, "on_gpu": True}
    two, three = (
        activation_bytes(config(num_hidden_layers=depth), ROWS, LENGTH, 1, **shape)
        for depth in (2, 3)
    )
    width, inner, heads = 64, 192, 4
    numbers = (
        3 * width  # queries, keys, values
        + width  # what attention returns
        + heads  # its normalizers
        + 2 * (2 * width + 2)  # input and output of two norms, mean and deviation
        + 2 * inner  # before and after GELU
    )
    assert three - two == CELLS * (4 * numbers + 2 * width)


def test_mixed_precision_halves_what_products_keep():
    shape = {"labelled_only": False, "on_gpu": True}
    whole, mixed = (
        activation_bytes(config(), ROWS, LENGTH, 1, bf16=bf16, **shape) for bf16 in (False, True)
    )
    assert 0.5 < mixed / whole < 0.9


@pytest.mark.skipif(torch.version.cuda is None, reason="torch is built without CUDA")
@pytest.mark.parametrize("bf16", [False, True])
def test_the_kernels_of_cuda_keep_the_same(bf16):
    """CUDA's own autocast and dropout over tensors without data; this needs no GPU. Sdpa attention
    would need one, so attention is eager here."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), torch.device("cuda"):
        model = BertForPreTraining(config("eager")).train()
        rows = torch.zeros(4, ROWS, LENGTH, dtype=torch.long)
        inputs = {"input_ids": rows[0].clone(), "token_type_ids": rows[1].clone()}
        labels = {"labels": rows[2].clone(), "next_sentence_label": rows[3, :, 0].clone()}
        saved = SavedTensors(model)
        with saved.counted(), CudaAutocast() if bf16 else nullcontext():
            model(**inputs, **labels)
    counted = activation_bytes(
        config("eager"), ROWS, LENGTH, CELLS, labelled_only=False, on_gpu=True, bf16=bf16
    )
    assert counted == saved.bytes


class CudaAutocast:
    """`torch.autocast("cuda")`, which switches itself off where there is no GPU."""

    def __enter__(self) -> None:
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", torch.bfloat16)

    def __exit__(self, *_) -> None:
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()
