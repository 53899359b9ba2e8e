"""The default settings on every model: scores are learned, and nothing else reaches the model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import default_collate
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ConvBertConfig,
    ConvBertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from sift_trainer import SiftMixin, SiftTrainer, SiftTrainingArguments
from sift_trainer.scoring.predicted_loss import PredictedLoss
from tests.matrix import MATRIX
from tests.probe.probed import rough
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


class Copying(TrainerCallback):
    """Copies the parameters after the third update."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            self.found = {name: v.clone() for name, v in kwargs["model"].state_dict().items()}


def test_learning_leaves_no_trace_in_the_model(tmp_path: Path) -> None:
    """Three updates come before sifting, in which one criterion learns and the other does not. The
    parameters are equal bit for bit, with dropout: neither gradients nor random numbers reach the
    model."""
    copies = []
    for criterion in ("loss", "predicted_loss"):
        changes = {"sift_criterion": criterion, "sift_warmup_steps": 3}
        trainer = SiftTrainer(bert(), arguments(tmp_path, **changes), train_dataset=Rows(48))
        copies.append(Copying())
        trainer.add_callback(copies[-1])
        trainer.train()
    for name, value in copies[0].found.items():
        assert torch.equal(copies[1].found[name], value), name


def test_kept_samples_are_the_largest_predictions(tmp_path: Path) -> None:
    """Half of the kept ones; and the predictions are no longer the exit's losses."""
    args = SiftTrainingArguments(
        **quick(tmp_path, max_steps=8), sift_cooldown_steps=0, sift_gate=None
    )
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


class Positional(SiftTrainer):
    """Passes ``return_outputs`` by position, as many scripts do."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        loss, outputs = super().compute_loss(model, inputs, True)
        return (loss, outputs) if return_outputs else loss


def test_outputs_may_be_asked_for_by_position(tmp_path: Path) -> None:
    args = TrainingArguments(**quick(tmp_path, max_steps=3))
    trainer = Positional(bert(), args, train_dataset=Rows(48))
    trainer.train()
    assert trainer._criterion is not None
    assert trainer._criterion.state_dict()["network"]["output.weight"].abs().max() > 0


def sentences(length: int, count: int = 48) -> list[dict[str, Tensor]]:
    """Sentences of the first half of their places; the rest is padding."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 90, (count, length), generator=draw)
    mask = (torch.arange(length) < length // 2).long().expand(count, -1)
    return [
        {"input_ids": ids[row] * mask[row], "attention_mask": mask[row], "labels": row % 2}
        for row in range(count)
    ]


def test_states_with_positions_in_front_are_not_read_as_samples(tmp_path: Path) -> None:
    """XLNet's are (T, B, d). With 8 candidates of 8 tokens the two look alike."""
    config = XLNetConfig(vocab_size=100, d_model=32, n_layer=2, n_head=2, d_inner=64)
    args = TrainingArguments(**quick(tmp_path, max_steps=4))
    trainer = SiftTrainer(
        XLNetForSequenceClassification(config), args, train_dataset=sentences(8, 44)
    )
    trainer.train()
    assert trainer._criterion is not None
    assert trainer._criterion.state_dict()["network"]["hidden.weight"].shape[1] == 129


@pytest.mark.parametrize(("kind", "trims"), [("bert", True), ("convbert", False)])
def test_padding_stays_for_models_that_mix_it_in(kind: str, trims: bool, tmp_path: Path) -> None:
    sizes = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
    model: Any = BertForSequenceClassification(BertConfig(num_attention_heads=2, **sizes))
    if kind == "convbert":
        config = ConvBertConfig(num_attention_heads=4, embedding_size=32, **sizes)
        model = rough(ConvBertForSequenceClassification(config))
    widths: list[int] = []

    class Noting(SiftTrainer):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(model, inputs, *args, **kwargs)
            widths.append(inputs["input_ids"].shape[1])
            return loss

    args = TrainingArguments(**quick(tmp_path, max_steps=3))
    Noting(model, args, train_dataset=sentences(20)).train()
    assert widths == [10 if trims else 20] * 3


@pytest.mark.parametrize(("interval", "warmup"), [(2, 5), (-2, 5), (4, 5), (1, 3)])
def test_the_agreement_is_measured_in_any_schedule(
    interval: int, warmup: int, tmp_path: Path
) -> None:
    changes = {"sift_interval": interval, "sift_warmup_steps": warmup, "max_steps": 12}
    trainer = RecordingTrainer(bert(), arguments(tmp_path, **changes), train_dataset=Rows(48))
    trainer.train()
    assert any("sift/agreement" in line for line in trainer.state.log_history)
