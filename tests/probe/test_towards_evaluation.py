"""The probe's descent, towards rows of the evaluation set."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sift_trainer import SiftTrainer, early_exit, per_sample_loss
from sift_trainer.measuring.held_out import evaluation_batches
from sift_trainer.probe import probe
from tests.probe.probed import FAST, rough
from tests.training import Rows, arguments, bert


def test_towards_the_evaluation_set(tmp_path: Path) -> None:
    """Descents of the kept rows of each batch towards as many batches of evaluation rows."""
    model = rough(bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    args = arguments(tmp_path, sift_held_out="evaluation")
    trainer = SiftTrainer(model, args, train_dataset=Rows(400), eval_dataset=Rows(60))
    few = {**FAST, "batches": 2}
    found = probe(trainer, exits=[1], criteria=["loss"], fractions=[1.0], **few)
    (figures,) = found.figures
    assert found.held_out == "evaluation"
    torch.manual_seed(trainer.args.seed)
    batches = [batch for batch, _ in zip(trainer.get_train_dataloader(), range(2), strict=False)]
    parameters = list(model.parameters())

    def gradient(batch: dict[str, Tensor], rows: Any = slice(None)) -> Tensor:
        names = ("input_ids", "attention_mask", "labels")
        loss = model.train()(**{name: batch[name][rows] for name in names}).loss
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return torch.cat([each.flatten() for each in found if each is not None])

    descents = []
    held_out = evaluation_batches(trainer, trainer.args.eval_batch_size, 2)
    for batch, towards in zip(batches, held_out, strict=True):
        model.eval()
        with torch.no_grad(), early_exit(model, 1):
            early = per_sample_loss(model(**batch).logits, batch["labels"])
        descents.append(float(gradient(batch, early.topk(4).indices) @ gradient(towards)))
    seconds = found.step_seconds.value * (1 + figures.scoring_share.value)
    assert figures.descent.kept.value == pytest.approx(sum(descents) / 2 / seconds, rel=1e-4)
