"""Callbacks, evaluation, counters and repeated runs: as with `Trainer`, while it really sifts."""

from collections import UserDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import default_collate
from transformers import (
    BatchEncoding,
    BertForMaskedLM,
    Trainer,
    TrainingArguments,
)
from transformers.utils import ModelOutput

from sift_trainer import SiftCallback
from tests.test_compatibility import assert_sifted, ran
from tests.training import (
    RecordingTrainer,
    Rows,
    arguments,
    bert,
    quick,
    trained,
)

# ---- callbacks ----


def test_callback_of_the_users_own(tmp_path: Path) -> None:
    class Mine(SiftCallback):
        pass

    mine = Mine()
    trainer = RecordingTrainer(
        bert(), arguments(tmp_path), train_dataset=Rows(48), callbacks=[mine]
    )
    trainer.train()
    found = [c for c in trainer.callback_handler.callbacks if isinstance(c, SiftCallback)]
    assert found == [mine]
    assert mine.candidates == 4 * 8


def test_removed_callback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sifting goes on; nothing is measured, printed or saved."""
    args = arguments(tmp_path, save_strategy="steps", save_steps=4)
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(48))
    trainer.remove_callback(SiftCallback)
    trainer.train()
    assert_sifted(trainer)
    assert not [key for log in trainer.state.log_history for key in log if key.startswith("sift/")]
    assert "SiftCallback" not in trainer.state.stateful_callbacks
    assert "candidates trained on" not in capsys.readouterr().out


# ---- batches ----


@pytest.mark.parametrize("kind", [UserDict, BatchEncoding, ModelOutput])
def test_any_mapping_is_narrowed(kind: Any, tmp_path: Path) -> None:
    trainer = RecordingTrainer(
        bert(),
        arguments(tmp_path),
        train_dataset=Rows(48),
        data_collator=lambda rows: kind(default_collate(rows)),
    )
    trainer.train()
    assert_sifted(trainer)


# ---- evaluation ----


def test_evaluation_keeps_full_logits(tmp_path: Path) -> None:
    """In the middle of training and after it, whole as they are without sifting."""
    shapes = []

    def metrics(prediction: Any) -> dict[str, float]:
        shapes.append(prediction.predictions.shape)
        return {}

    args = arguments(tmp_path, eval_strategy="steps", eval_steps=1, max_steps=2)
    trainer = RecordingTrainer(
        bert(), args, train_dataset=Rows(48), eval_dataset=Rows(12), compute_metrics=metrics
    )
    trainer.train()
    assert shapes == [(12, 16, 100)] * 2
    assert_sifted(trainer)
    predictions = torch.from_numpy(trainer.predict(Rows(12)).predictions)
    tokens = torch.stack([Rows(12)[row]["input_ids"] for row in range(12)])
    plain = BertForMaskedLM(bert().config).eval()
    plain.load_state_dict(trainer.model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(predictions, plain(tokens).logits, rtol=0, atol=1e-5)


def test_evaluation_is_not_timed(tmp_path: Path) -> None:
    class Watching(RecordingTrainer):
        def evaluate(self, *args: Any, **kwargs: Any) -> Any:
            before = dict(self.sift_callback.timer.totals)
            metrics = super().evaluate(*args, **kwargs)
            assert self.sift_callback.timer.totals == before
            assert not self.sift_callback.timer._open
            assert not [key for key in metrics if key.startswith("sift/")]
            self.evaluated = getattr(self, "evaluated", 0) + 1
            return metrics

    args = arguments(tmp_path, eval_strategy="steps", eval_steps=1)
    trainer = Watching(bert(), args, train_dataset=Rows(48), eval_dataset=Rows(12))
    trainer.train()
    assert trainer.evaluated == 4
    assert_sifted(trainer)


# ---- again, and anew ----


def test_training_twice(tmp_path: Path) -> None:
    """The second run goes on with the model and counts from zero."""
    trainer = ran(tmp_path)
    after_first = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    assert_sifted(trainer)
    assert len(trainer.kept) == 8
    assert trained(trainer, after_first)
    assert trainer.losses[4] < trainer.losses[0]
    assert trainer.state.log_history[-1]["sift/candidates"] == 4 * 8


def test_model_init(tmp_path: Path) -> None:
    """Every run has a model of its own, and it is that one which scores."""
    trainer = RecordingTrainer(
        args=arguments(tmp_path), model_init=lambda: bert(), train_dataset=Rows(48)
    )
    trainer.train()
    first = trainer.model
    trainer.train()
    assert trainer.model is not first
    assert_sifted(trainer)
    assert trainer.kept[4:] == trainer.kept[:4]
    assert trainer.scores[4:] == trainer.scores[:4]
    assert trainer.losses[4:] == trainer.losses[:4]


# ---- what Trainer counts ----


@pytest.mark.parametrize("ratio", [0.5, 0.25])
def test_counters_are_of_the_rows_trained_on(ratio: float, tmp_path: Path) -> None:
    """As those of a plain Trainer of the same batch size, whatever was scored."""
    changes = {"include_num_input_tokens_seen": "all", "max_steps": 3}
    sifting = ran(tmp_path, sift_keep_ratio=ratio, **changes)
    assert_sifted(sifting)
    plain = Trainer(bert(), TrainingArguments(**quick(tmp_path, **changes)), train_dataset=Rows(48))
    plain.train()
    assert sifting.state.num_input_tokens_seen == 3 * 4 * 16
    assert sifting.state.num_input_tokens_seen == plain.state.num_input_tokens_seen
    assert sifting.state.total_flos == plain.state.total_flos > 0
    assert sifting.state.train_batch_size == plain.state.train_batch_size == 4
    last = sifting.state.log_history[-1]
    samples = last["train_samples_per_second"] * last["train_runtime"]
    assert samples == pytest.approx(3 * 4, rel=0.05)


def test_accumulation_windows(tmp_path: Path) -> None:
    trainer = ran(tmp_path, gradient_accumulation_steps=3, max_steps=2)
    assert [len(kept) for kept in trainer.kept] == [4] * 6
    assert_sifted(trainer)
    assert trainer.state.log_history[-1]["sift/candidates"] == 6 * 8


# ---- runs ----


def test_a_single_step_with_default_settings_sifts(tmp_path: Path) -> None:
    args = TrainingArguments(**quick(tmp_path, max_steps=1))
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(48))
    trainer.train()
    assert_sifted(trainer)


def test_the_speed_of_an_epoch_counts_the_samples_trained_on(tmp_path: Path) -> None:
    trainer = RecordingTrainer(
        bert(), arguments(tmp_path, max_steps=-1, num_train_epochs=1), train_dataset=Rows(48)
    )
    metrics = trainer.train().metrics
    samples = metrics["train_samples_per_second"] * metrics["train_runtime"]
    assert samples == pytest.approx(24, rel=0.02)  # both figures are rounded


def test_a_second_run_is_checked_as_the_first_was(tmp_path: Path) -> None:
    trainer = ran(tmp_path, sift_warmup_steps=2)
    trainer.args.max_steps = 2
    with pytest.raises(ValueError, match="sift_warmup_steps=2"):
        trainer.train()


def test_training_again_keeps_one_hook_on_the_head(tmp_path: Path) -> None:
    model = bert()
    for _ in range(2):
        ran(tmp_path, model)
    assert len(model.get_output_embeddings()._forward_pre_hooks) == 1
