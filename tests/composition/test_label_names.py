"""Labels under another name: left out when the model scores, passed to it when it trains."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertForMaskedLM

from sift_trainer import SiftTrainer
from tests.composition.replay import DRAWN, KEPT, Noting, arguments, assert_chosen
from tests.invariants.scale_runs import build, rows
from tests.invariants.test_sifted_step import EXITS
from tests.training import as_drawn

NAME = "bert_masked_lm"


class Renamed(BertForMaskedLM):
    """Its labels are called ``targets``; it records whether it was given them."""

    def forward(self, input_ids: Any = None, targets: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        self.called_with.append((self.training, targets is not None))
        return super().forward(input_ids=input_ids, labels=targets, **kwargs)


def renamed() -> Renamed:
    model = build(NAME)
    model.__class__ = Renamed
    model.called_with = []
    return model


def data() -> list[dict[str, Tensor]]:
    return [
        {"input_ids": row["input_ids"], "targets": row["labels"]} for row in rows(NAME, "ragged")
    ]


def mean_entropy(model: Any, row: dict[str, Tensor]) -> float:
    """Over all positions: without labels all are scored."""
    model.eval()
    with torch.no_grad():
        ids = row["input_ids"][None]
        hidden = BertForMaskedLM.forward(model, ids, output_hidden_states=True).hidden_states[1]
        log_probabilities = EXITS[NAME](model, hidden)[0].double().log_softmax(dim=-1)
    model.train()
    return float(-(log_probabilities.exp() * log_probabilities).sum(dim=-1).mean())


def test_entropy_needs_no_labels(tmp_path: Path) -> None:
    args = arguments(tmp_path, label_names=["targets"], sift_criterion="entropy")
    model = renamed()
    drawn = as_drawn(data(), KEPT)
    trainer = Noting(model, args, train_dataset=drawn, eval_dataset=data()[:DRAWN])
    trainer.train()
    assert set(model.called_with) == {(False, False), (True, True)}

    step, plain = trainer.steps[0], renamed()
    assert_chosen(step, {row: mean_entropy(plain, data()[row]) for row in step.scores}, 1e-5)

    # Evaluation returns the labels of that name.
    predicted = trainer.predict(data()[:DRAWN])
    expected = torch.stack([row["targets"] for row in data()[:DRAWN]]).numpy()
    assert np.array_equal(predicted.label_ids, expected)
    assert "test_loss" in predicted.metrics


def test_loss_without_its_labels_is_refused_before_any_update(tmp_path: Path) -> None:
    model = renamed()
    args = arguments(tmp_path, label_names=["targets"])
    trainer = SiftTrainer(model, args, train_dataset=data())
    with pytest.raises(ValueError, match=r"sift_criterion='loss' needs 'labels'.*'targets'"):
        trainer.train()
    assert trainer.state.global_step == 0
    for found, before in zip(model.parameters(), renamed().parameters(), strict=True):
        assert torch.equal(found, before)
