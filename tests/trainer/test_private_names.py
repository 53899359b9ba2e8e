"""The private names of Transformers that this package uses still mean what it relies on.

When one of these fails after an upgrade, the code that uses the name has to change, even if all
else still passes.
"""

import inspect
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
    Wav2Vec2ForCTC,
)
from transformers.trainer_jit_checkpoint import JITCheckpointCallback
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import rotate_checkpoints

from sift_trainer.checkpoints.manifest import IN_PROGRESS
from tests.tiny_configs import wav2vec2
from tests.training import Rows, bert, quick


class Watching(Trainer):
    """Notes the calls of some methods."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.loaders: list[dict[str, Any]] = []
        self.happened: list[Any] = []
        super().__init__(*args, **kwargs)

    def _get_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        assert args == ()
        self.loaders.append(kwargs)
        return super()._get_dataloader(*args, **kwargs)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        before = list(self.accelerator._models)
        prepared = super()._prepare_for_training(*args, **kwargs)
        self.prepared = before, list(self.accelerator._models)
        return prepared

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        self.window, count = super().get_batch_samples(*args, **kwargs)
        self.happened.append("window")
        return self.window, count

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self.happened.append(self.place(inputs))
        return super().training_step(model, inputs, *args, **kwargs)

    def floating_point_ops(self, inputs: Any) -> int:
        self.happened.append(f"counted {self.place(inputs)}")
        return 0

    def place(self, inputs: Any) -> int:
        return next(i for i, batch in enumerate(self.window) if batch is inputs)


def watching(folder: Path, model: Any = None, **changes: Any) -> Watching:
    args = TrainingArguments(**quick(folder, per_device_eval_batch_size=6, **changes))
    model = bert() if model is None else model
    return Watching(model, args, train_dataset=Rows(48), eval_dataset=Rows(12))


def test_get_dataloader_is_told_by_keyword_that_it_trains(tmp_path: Path) -> None:
    """`SiftMixin._get_dataloader` reads and replaces these keywords, for training only. The number
    of rows trained on is ``_train_batch_size``, so candidates must not be written to it."""
    trainer = watching(tmp_path, train_sampling_strategy="group_by_length")
    trainer._train_batch_size = 3
    loader = trainer.get_train_dataloader()
    (keywords,) = trainer.loaders
    assert keywords["is_training"] is True
    assert keywords["batch_size"] == trainer.get_total_train_batch_size(trainer.args) == 3
    sampler = keywords["sampler_fn"](Rows(48))
    assert type(sampler) is LengthGroupedSampler
    assert sampler.batch_size == 4
    assert [len(batch["labels"]) for batch in loader] == [3] * 16
    trainer.get_eval_dataloader()
    trainer.get_test_dataloader(Rows(12))
    for keywords in trainer.loaders[1:]:
        assert not keywords.get("is_training")
        assert keywords["batch_size"] == 6


def test_num_items_counts_labels_of_the_window(tmp_path: Path) -> None:
    """`SiftMixin` has the kept labels counted by it, for its gathering over processes."""
    trainer = watching(tmp_path)
    parameters = inspect.signature(Trainer._get_num_items_in_batch).parameters
    assert list(parameters) == ["self", "batch_samples", "device"]
    window = [
        {"labels": torch.tensor([[1, -100, 2], [-100, -100, 3]])},
        {"labels": torch.tensor([[4, 5, 6]])},
    ]
    assert trainer.model_accepts_loss_kwargs  # a public attribute, which turns the count on
    assert trainer._get_num_items_in_batch(window, torch.device("cpu")) == 6
    shifted = [{**batch, "shift_labels": batch["labels"][:, 1:]} for batch in window]
    assert trainer._get_num_items_in_batch(shifted, torch.device("cpu")) == 4
    trainer.model_accepts_loss_kwargs = False
    assert trainer._get_num_items_in_batch(window, torch.device("cpu")) is None


@pytest.mark.parametrize("causal", [False, True])
def test_num_items_skips_the_first_label_of_some_causal_models(
    causal: bool, tmp_path: Path
) -> None:
    """`countable_labels` ignores a causal model's first label, which is to be left out once."""
    sizes = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 32}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2)) if causal else bert()
    trainer = watching(tmp_path, model)
    labels = [{"labels": torch.tensor([[1, 2, 3], [-100, 5, 6]])}]
    count = trainer._get_num_items_in_batch(labels, torch.device("cpu"))
    assert count == (4 if causal else 5)
    labels[0]["labels"][:, 0] = -100
    assert trainer._get_num_items_in_batch(labels, torch.device("cpu")) == 4


def test_a_run_prepares_its_model_and_passes_on_the_batches_of_the_window(tmp_path: Path) -> None:
    """`SiftMixin` prepares a model for FSDP2 around `_prepare_for_training`. A window is recognised
    by identity, and narrowed in place for what is counted later."""
    trainer = watching(tmp_path, max_steps=2, gradient_accumulation_steps=2)
    trainer.train()
    assert trainer.prepared == ([], [trainer.model])
    assert trainer.happened == ["window", 0, "counted 0", 1, "counted 1"] * 2


@torch.no_grad()
def test_a_ctc_model_says_how_many_frames_a_sound_has() -> None:
    """`Transcription` leaves the frames of padding out by it, as the models' own losses do."""
    model = Wav2Vec2ForCTC(wav2vec2()).eval()
    for samples in (400, 399, 57):
        frames = model._get_feat_extract_output_lengths(torch.tensor([samples]))
        assert model(torch.randn(1, samples)).logits.shape[1] == int(frames)


def test_checkpoint_is_saved_model_first_and_rotation_last(tmp_path: Path) -> None:
    """`WholeCheckpoints` removes the limit after the model and its arguments have been saved; the
    rotation at the end then has none."""

    class Saving(Trainer):
        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            assert self._get_output_dir(trial=trial) == self.args.output_dir
            self.folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            super()._save_checkpoint(model, trial)
            self.args.save_total_limit = 1

        def save_model(self, *args: Any, **kwargs: Any) -> None:
            assert not self.folder.exists()
            super().save_model(*args, **kwargs)
            written = {path.name for path in self.folder.iterdir()}
            assert written == {"config.json", "model.safetensors", "training_args.bin"}
            self.args.save_total_limit = None

    changes = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}
    args = TrainingArguments(**quick(tmp_path, **changes))
    Saving(bert(), args, train_dataset=Rows(48)).train()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"checkpoint-1", "checkpoint-2", "checkpoint-3"}
    rotate_checkpoints(
        output_dir=str(tmp_path),
        save_total_limit=1,
        best_model_checkpoint=str(tmp_path / "checkpoint-1"),
        use_mtime=True,
    )
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-1", "checkpoint-3"}


def test_jit_checkpoint_installs_early_restores_late_and_marks_its_folder(tmp_path: Path) -> None:
    """`StopOnSignal` replaces its handler during training and leaves the restoring to it."""
    before = signal.getsignal(signal.SIGTERM)
    trainer = watching(tmp_path, enable_jit_checkpoint=True)
    (callback,) = [
        c for c in trainer.callback_handler.callbacks if isinstance(c, JITCheckpointCallback)
    ]
    assert signal.getsignal(signal.SIGTERM) == callback.jit_manager._sigterm_handler
    seen = []

    def save(*args: Any, **kwargs: Any) -> None:
        seen.extend(path.name for path in (tmp_path / "checkpoint-0").iterdir())

    trainer._save_checkpoint = save
    callback.jit_manager.execute_jit_checkpoint()
    assert seen == [IN_PROGRESS]
    callback.on_train_end(trainer.args, trainer.state, trainer.control)
    assert signal.getsignal(signal.SIGTERM) == before
