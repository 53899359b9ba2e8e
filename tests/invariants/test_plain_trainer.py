"""At sift_keep_ratio=1.0 a run is the plain Trainer's, to the last bit."""

import pytest
import torch
from transformers import Trainer

from sift_trainer import SiftTrainer
from tests.invariants.scale_runs import build, rows
from tests.training import arguments

# Where the plain Trainer scales right: a head that swallows the count only without accumulation;
# GPT-2 only where the first position, which is no target, has no label.
RUNS = (("bert_pretraining", 1), ("modernbert", 2), ("llama", 2), ("gpt2", 2))


def train(trainer_class, name, accumulation, folder):
    data = rows(name, "ragged")
    for row in data:
        row["labels"][0] = -100
    args = arguments(
        folder,
        max_steps=-1,
        num_train_epochs=2,
        gradient_accumulation_steps=accumulation,
        learning_rate=1e-3,
        lr_scheduler_type="linear",
        sift_keep_ratio=1.0,
    )
    trainer = trainer_class(build(name, dropout=True), args, train_dataset=data)
    trainer.train()
    return trainer


@pytest.mark.parametrize(("name", "accumulation"), RUNS)
def test_keep_ratio_one_is_the_plain_trainer_bit_for_bit(name, accumulation, tmp_path):
    plain = train(Trainer, name, accumulation, tmp_path / "plain")
    sift = train(SiftTrainer, name, accumulation, tmp_path / "sift")

    def losses(trainer):
        return [(e["loss"], e["grad_norm"]) for e in trainer.state.log_history if "loss" in e]

    assert len(losses(plain)) == 16 // accumulation
    assert losses(sift) == losses(plain)
    for expected, found in zip(plain.model.parameters(), sift.model.parameters(), strict=True):
        assert torch.equal(found, expected)
    assert sift.state.total_flos == plain.state.total_flos
