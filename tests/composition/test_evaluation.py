"""Evaluating between sifted steps: metrics are of the whole model, and the run is unchanged."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import BertForMaskedLM

from tests.training import RecordingTrainer, Rows, arguments, bert

EVALUATED = Rows(12)
TOKENS = torch.stack([EVALUATED[row]["input_ids"] for row in range(12)])
LABELS = torch.stack([EVALUATED[row]["labels"] for row in range(12)])
EACH_STEP = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 5}


def plain_logits(model: BertForMaskedLM) -> torch.Tensor:
    """Of a copy that no hook, head or truncation of a training run has seen."""
    fresh = BertForMaskedLM(model.config).eval()
    fresh.load_state_dict(model.state_dict())
    with torch.no_grad():
        return fresh(TOKENS).logits


def batch_losses(logits: torch.Tensor) -> list[tuple[float, int]]:
    """Mean loss over the labels of each batch of five, and its number of rows."""
    return [
        (functional.cross_entropy(part.flatten(0, 1), labels.flatten()).item(), len(part))
        for part, labels in zip(logits.split(5), LABELS.split(5), strict=True)
    ]


def accuracy(prediction: Any) -> dict[str, float]:
    labelled = prediction.label_ids != -100
    hits = prediction.predictions.argmax(-1) == prediction.label_ids
    return {"accuracy": float(hits[labelled].mean()), "labels": int(labelled.sum())}


class Copying(RecordingTrainer):
    """Keeps the model of each evaluation."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.copies: list[Any] = []
        super().__init__(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        self.copies.append(copy.deepcopy(self.model.state_dict()))
        return super().evaluate(*args, **kwargs)


def test_metrics_are_of_the_whole_model_at_each_step(tmp_path: Path) -> None:
    args = arguments(tmp_path, **EACH_STEP)
    trainer = Copying(
        bert(), args, train_dataset=Rows(48), eval_dataset=EVALUATED, compute_metrics=accuracy
    )
    trainer.train()
    logs = [log for log in trainer.state.log_history if "eval_loss" in log]
    assert len(logs) == len(trainer.copies) == 4
    model = bert()
    for log, state in zip(logs, trainer.copies, strict=True):
        model.load_state_dict(state)
        logits = plain_logits(model)
        hits = (logits.argmax(-1) == LABELS)[LABELS != -100]
        assert log["eval_accuracy"] == pytest.approx(hits.float().mean().item())
        assert log["eval_labels"] == int((LABELS != -100).sum())
        total = sum(loss * count for loss, count in batch_losses(logits))
        assert log["eval_loss"] == pytest.approx(total / 12, rel=1e-5)
    assert len({log["eval_loss"] for log in logs}) == 4


def test_evaluating_changes_nothing(tmp_path: Path) -> None:
    """Without dropout, as a plain Trainer's evaluation draws from the global random state too."""
    calm = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    runs = []
    for settings in ({}, EACH_STEP):
        args = arguments(tmp_path, **settings)
        trainer = RecordingTrainer(
            bert(**calm),
            args,
            train_dataset=Rows(48),
            eval_dataset=EVALUATED,
            compute_metrics=accuracy,
        )
        trainer.train()
        runs.append((trainer.kept, trainer.scores, trainer.losses))
    assert runs[0] == runs[1]
    assert all(scores is not None for scores in runs[0][1])
