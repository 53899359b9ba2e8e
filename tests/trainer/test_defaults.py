"""The default settings on every model and task: scores are learned, and the model is not touched."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import default_collate
from transformers import Trainer, TrainingArguments

from sift_trainer import SiftMixin, SiftTrainer, SiftTrainingArguments
from sift_trainer.scoring.predicted_loss import PredictedLoss
from tests.matrix import MATRIX
from tests.test_matrix import rows_of
from tests.training import RecordingTrainer, Rows, arguments, bert, quick


@pytest.mark.parametrize("name", MATRIX)
def test_every_model_learns_its_scores(name: str, tmp_path: Path) -> None:
    """One step before sifting and two that sift, as by a swap of the class."""
    exit_layer = 1 if MATRIX[name].depth is not None else -1
    args = SiftTrainingArguments(
        **quick(tmp_path, max_steps=3, per_device_train_batch_size=2),
        sift_exit_layer=exit_layer,
        sift_cooldown_steps=0,
        sift_warmup_steps=1,
    )
    model = MATRIX[name].build()
    names = set(model.state_dict())
    rows = rows_of(MATRIX[name].batch())
    trainer = SiftTrainer(model, args, train_dataset=rows, data_collator=default_collate)
    trainer.train()
    criterion = trainer._criterion
    assert isinstance(criterion, PredictedLoss)
    state = criterion.state_dict()
    # Of three batches, each weighted by .95 for each later one.
    assert float(state["moments"][0]) == pytest.approx(1 + 0.95 + 0.95**2, rel=1e-5)
    assert state["network"]["output.weight"].abs().max() > 0
    assert set(model.state_dict()) == names
    assert len(trainer.selections[0].rows) == 2


def parameters_after(folder: Path, criterion: str) -> dict[str, Tensor]:
    """After steps that do not sift, in which a learned criterion learns and another does not."""
    args = arguments(
        folder, sift_criterion=criterion, sift_selector="mixed", sift_warmup_steps=3, max_steps=3
    )
    trainer = SiftTrainer(bert(), args, train_dataset=Rows(48))
    with pytest.MonkeyPatch.context() as patch:  # all three steps come before sifting
        patch.setattr("sift_trainer.trainer.check_steps", lambda *_: None)
        trainer.train()
    if criterion == "predicted_loss":
        assert trainer._criterion is not None
        assert trainer._criterion.state_dict()["network"]["output.weight"].abs().max() > 0
    return trainer.model.state_dict()


def test_learning_leaves_no_trace_in_the_model(tmp_path: Path) -> None:
    """Bit for bit, with dropout: neither gradients nor random numbers reach the model."""
    plain = parameters_after(tmp_path, "loss")
    for name, value in parameters_after(tmp_path, "predicted_loss").items():
        assert torch.equal(value, plain[name]), name


def test_kept_samples_are_the_largest_predictions(tmp_path: Path) -> None:
    """Half of the kept ones; and the predictions are no longer the exit's losses."""
    args = SiftTrainingArguments(**quick(tmp_path, max_steps=8), sift_cooldown_steps=0)
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(64))
    trainer.train()
    assert [scores is None for scores in trainer.scores] == [True] * 2 + [False] * 6
    for scores, drawn, kept in zip(
        trainer.scores[2:], trainer.candidates[2:], trainer.kept[2:], strict=True
    ):
        assert scores is not None
        best = torch.tensor(scores).argsort(descending=True)[:2].tolist()
        assert {drawn[place] for place in best} <= set(kept)
    line = next(line for line in trainer.state.log_history[::-1] if "sift/agreement" in line)
    assert -1 <= line["sift/agreement"] <= 1


class OwnLoss(SiftMixin, Trainer):
    """A loss that only training can compute."""

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        labels = inputs.pop("labels")
        return functional.cross_entropy(model(**inputs).logits.transpose(1, 2), labels)


def test_a_loss_that_hides_its_samples_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    args = TrainingArguments(**quick(tmp_path, max_steps=3))
    trainer = OwnLoss(bert(), args, train_dataset=Rows(48))
    trainer.train()
    assert caplog.text.count("learns nothing") == 1
    assert "OwnLoss.compute_loss does not show the losses of single samples" in caplog.text


@pytest.mark.parametrize("blind", [True, False])
def test_scores_that_do_not_agree_end_the_choice(
    blind: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An exit whose head says nothing is told after 25 updates; one that sees is kept."""
    model = bert(num_hidden_layers=1)
    if blind:
        trainer_class: Any = Shuffled
    else:
        trainer_class = RecordingTrainer
    args = arguments(
        tmp_path,
        sift_exit_layer=-1,
        max_steps=130,
        learning_rate=0.0,
        per_device_train_batch_size=8,
        logging_steps=10,
    )
    trainer = trainer_class(model, args, train_dataset=Rows(600))
    trainer.train()
    sifted = [scores is not None for scores in trainer.scores]
    assert ("do not agree with the losses of the whole model" in caplog.text) == blind
    # Every fourth update is measured; 25 of them are the least.
    assert sifted == ([True] * 97 + [False] * 33 if blind else [True] * 130)
    for kept, drawn in zip(trainer.kept[97:], trainer.candidates[97:], strict=True):
        assert (kept == drawn[:8]) == blind


class Shuffled(RecordingTrainer):
    """Its scores are those of other samples."""

    def _scored(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._scored(*args, **kwargs)
        return type(found)(found.scores.roll(3), found.features)
