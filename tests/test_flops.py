"""The count of operations: against figures worked out by hand, and against torch's counter."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForPreTraining

from sift_trainer import SiftArguments
from sift_trainer.early_exit.masked_lm import LabelledLastBlock
from sift_trainer.flops import (
    BertShape,
    block,
    forward,
    forward_backward,
    scoring,
    scoring_overhead,
    sifted_step,
    vocabulary_head,
)
from sift_trainer.sifted_model.facts import ModelPasses
from sift_trainer.sifted_model.model import SiftedModel
from sift_trainer.sifted_model.no_trace import inference
from sift_trainer.sifted_model.trained_loss import TrainedLoss

MEGA = 1e6
BASE = BertShape(768, 3072, 12, 30522, length=512, label_share=0.15)


def test_bert_base_by_hand():
    """12 x 768^2 x 2 for the products with weights, 4 x 512 x 768 for attention; 768 x 31290 x 2
    for the head."""
    assert block(BASE) / MEGA == pytest.approx(14.155776 + 1.572864)
    assert vocabulary_head(BASE) / MEGA == pytest.approx(48.06144)
    assert vocabulary_head(BASE, 0.15, 0.15) / MEGA == pytest.approx(7.21, abs=0.005)
    assert forward(BASE) / MEGA == pytest.approx(236.8, abs=0.05)
    assert forward_backward(BASE) / MEGA == pytest.approx(710.4, abs=0.05)


def test_scoring_bert_base_by_hand():
    """Keys and values 2.36 and 15% of 13.37 + 48.06; a quarter of that share; a block more."""
    assert scoring(BASE, 1, "everywhere") / MEGA == pytest.approx(63.8, abs=0.05)
    assert scoring(BASE, 1) / MEGA == pytest.approx(11.6, abs=0.05)
    assert scoring(BASE, 1, token_fraction=0.25) / MEGA == pytest.approx(4.7, abs=0.05)
    assert scoring(BASE, 12) - scoring(BASE, 1) == 11 * block(BASE)
    masked_only = 3 * (12 * block(BASE) + vocabulary_head(BASE, 0.15, 0.15))
    assert masked_only / MEGA == pytest.approx(587.9, abs=0.05)
    assert 2 * scoring(BASE, 1) / masked_only == pytest.approx(0.039, abs=0.0005)
    assert 2 * scoring(BASE, 1, "everywhere") / masked_only == pytest.approx(0.217, abs=0.0005)


def test_pruning_the_last_block_in_training():
    """It saves 5.8% of a step whose head is computed at the 15% labelled positions alone."""
    saved = 1 - (11 * block(BASE) + block(BASE, 0.15) + vocabulary_head(BASE, 0.15, 0.15)) / (
        12 * block(BASE) + vocabulary_head(BASE, 0.15, 0.15)
    )
    assert saved == pytest.approx(0.058, abs=0.0005)
    assert forward(BASE, "labelled_block") < forward(BASE, "labelled_head") < forward(BASE)


def test_overhead_is_per_kept_sample():
    assert scoring_overhead(BASE, 1, 0.5) == 2 * scoring(BASE, 1) / forward_backward(
        BASE, "labelled_block"
    )
    assert scoring_overhead(BASE, 1, 0.25) == 2 * scoring_overhead(BASE, 1, 0.5)


def test_sifted_step_of_bert_base_by_hand():
    """Naive: two candidates of 63.79 for a forward and backward of 3 x (12 x 15.73 + 48.06 + 0.0023
    for pooler and next sentence). Pruned: scoring of 11.57 twice, or four times where a quarter is
    kept, then 3 x (11 x 15.73 + last block 4.39 + head 7.21)."""
    naive = 2 * 63.79 + 3 * (12 * 15.7286 + 48.0614 + 0.0023)
    assert sifted_step(BASE, 1, 0.5, "everywhere") / MEGA == pytest.approx(naive, abs=0.05)
    keys_and_values, the_rest = 2.3593, 13.3693
    exit_block = keys_and_values + 0.15 * (the_rest + 48.0614)
    read = 0.15 + 1 / 512  # the labelled tokens, and the pooler's first
    last_block = keys_and_values + read * the_rest
    head = read * 1.1796 + 0.15 * 46.8818
    trained = 3 * (11 * 15.7286 + last_block + head + 0.0023)
    for keep_ratio in (0.25, 0.5, 1.0):
        expected = pytest.approx(exit_block / keep_ratio + trained, abs=0.05)
        assert sifted_step(BASE, 1, keep_ratio) / MEGA == expected
    assert sifted_step(BASE, 3, 0.5) - sifted_step(BASE, 1, 0.5) == 2 * 2 * block(BASE)


@pytest.mark.parametrize("exit_block", [0, 13, -1])
def test_a_block_that_there_is_not(exit_block):
    with pytest.raises(ValueError, match=r"exit_block=.* must be in 1\.\.12"):
        scoring(BASE, exit_block)


@pytest.mark.parametrize("share", [0, 1.5])
def test_a_share_that_is_none(share):
    with pytest.raises(ValueError, match="label_share"):
        BertShape(768, 3072, 12, 30522, length=512, label_share=share)


# ---- against torch's counter ----

ROWS, LENGTH, LABELS = 4, 48, 7
SHAPE = BertShape(96, 320, 3, 1000, LENGTH, LABELS / LENGTH)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return BertForPreTraining(
        BertConfig(
            hidden_size=SHAPE.hidden_size,
            intermediate_size=SHAPE.intermediate_size,
            num_hidden_layers=SHAPE.num_blocks,
            num_attention_heads=3,
            vocab_size=SHAPE.vocab_size,
        )
    )


def batch():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, SHAPE.vocab_size, (ROWS, LENGTH), generator=generator)
    order = torch.rand(ROWS, LENGTH - 1, generator=generator).argsort(dim=1) + 1
    labelled = torch.zeros_like(ids, dtype=torch.bool).scatter_(1, order[:, :LABELS], True)
    return {
        "input_ids": ids,
        "labels": ids.masked_fill(~labelled, -100),
        "next_sentence_label": torch.arange(ROWS) % 2,
    }


def counted(run) -> float:
    """Operations per token, attention as plain products: the fused one is not counted on a CPU."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / (ROWS * LENGTH)


def sifter(model, **fields) -> SiftedModel:
    sift = SiftArguments(**fields)
    return SiftedModel.probed(ModelPasses.of(model), batch(), sift, TrainedLoss(takes_count=True))


def test_stock_step(model):
    model.train()
    assert counted(lambda: model(**batch()).loss.backward()) == forward_backward(SHAPE)


def test_labelled_step(model):
    """Head and last block where they are read, as the Trainer runs them."""
    model.train()
    sifting = sifter(model)
    assert isinstance(sifting.facts.gather.__self__, LabelledLastBlock)

    def step() -> None:
        with sifting.labelled_only(batch()) as narrowed:
            model(**narrowed).loss.backward()

    assert counted(step) == pytest.approx(forward_backward(SHAPE, "labelled_block"), rel=0.001)


def test_labelled_head_alone(model):
    """Without the pruned block, which a checkpointed model does not get."""
    model.train()
    sifting = sifter(model)
    assert sifting.facts.head is not None
    sifting.facts.gather = sifting.facts.head.gather

    def step() -> None:
        with sifting.labelled_only(batch()) as narrowed:
            model(**narrowed).loss.backward()

    assert counted(step) == pytest.approx(forward_backward(SHAPE, "labelled_head"), rel=1e-12)


@pytest.mark.parametrize("exit_block", [1, 2, 3])
@pytest.mark.parametrize("masked_only", [True, False])
def test_scoring_pass(model, exit_block, masked_only):
    sifting = sifter(model, sift_exit_layer=exit_block, sift_masked_only_head=masked_only)
    expected = scoring(SHAPE, exit_block, "labelled_block" if masked_only else "everywhere")
    assert counted(lambda: score(sifting)) == pytest.approx(expected, rel=0.01)


def test_scoring_a_part_of_the_labels(model):
    sifting = sifter(model, sift_token_fraction=3 / 7)
    expected = scoring(SHAPE, 1, token_fraction=3 / 7)
    assert counted(lambda: score(sifting)) == pytest.approx(expected, rel=0.01)


def score(sifting: SiftedModel) -> None:
    with inference(sifting.model):
        sifting.score(batch(), torch.Generator().manual_seed(0))
