"""A checkpoint is resumed with the order of the data that it was written with, or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sift_trainer import SiftTrainer
from tests.training import Rows, arguments, bert

FIRST = {"max_steps": 2, "save_strategy": "steps", "save_steps": 2, "sift_warmup_steps": 0}
CHANGES: dict[str, tuple[dict[str, Any], str, str]] = {
    "batch": ({"per_device_train_batch_size": 2}, "candidates per process=8", "=4"),
    "ratio": ({"sift_keep_ratio": 0.25}, "candidates per process=8", "=16"),
    "accumulation": (
        {"gradient_accumulation_steps": 2},
        "gradient_accumulation_steps=1",
        "gradient_accumulation_steps=2",
    ),
    "seed": ({"seed": 1}, "seed=42", "seed=1"),
    "data seed": ({"data_seed": 1}, "data_seed=None", "data_seed=1"),
    "last batch": (
        {"dataloader_drop_last": True},
        "dataloader_drop_last=False",
        "dataloader_drop_last=True",
    ),
    "split": (
        {"accelerator_config": {"split_batches": True}},
        "split_batches=False",
        "split_batches=True",
    ),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    SiftTrainer(bert(), arguments(folder, **FIRST), train_dataset=Rows(48)).train()
    return folder / "checkpoint-2"


def resumed(checkpoint: Path, folder: Path, rows: int = 48, **changes: Any) -> SiftTrainer:
    args = arguments(folder, **{**FIRST, "max_steps": 3, **changes})
    trainer = SiftTrainer(bert(), args, train_dataset=Rows(rows))
    trainer.train(resume_from_checkpoint=str(checkpoint))
    return trainer


@pytest.mark.parametrize("case", CHANGES)
def test_another_order_is_refused_with_both_values(
    case: str, checkpoint: Path, tmp_path: Path
) -> None:
    changes, was, now = CHANGES[case]
    with pytest.raises(ValueError, match="cannot resume") as error:
        resumed(checkpoint, tmp_path, **changes)
    before, after = str(error.value).split("; this run has ", 1)
    assert before.endswith(was)
    assert after.split(".")[0].endswith(now)
    assert f"Resume with {was}; or set ignore_data_skip=True" in after


def test_other_data_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rows of training data=48; .*rows of training data=64"):
        resumed(checkpoint, tmp_path, rows=64)


def test_several_differences_are_named_together(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"seed=42, rows of training data=48; this run has seed=7"):
        resumed(checkpoint, tmp_path, rows=64, seed=7)


def test_a_new_order_can_be_asked_for(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = resumed(checkpoint, tmp_path, ignore_data_skip=True, seed=1)
    assert trainer.state.global_step == 3
    assert trainer.state.log_history[-1]["sift/candidates"] == 3 * 8
    (said,) = [record.message for record in caplog.records if "new order" in record.message]
    assert "seed=42; this run has seed=1" in said


def test_more_steps_and_another_learning_rate_are_no_other_order(
    checkpoint: Path, tmp_path: Path
) -> None:
    assert resumed(checkpoint, tmp_path, learning_rate=1e-3).state.global_step == 3


def test_checkpoint_of_before_this_was_recorded(checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = shutil.copytree(checkpoint, tmp_path / "checkpoint-2")
    state_file = checkpoint / "trainer_state.json"
    state = json.loads(state_file.read_text())
    del state["stateful_callbacks"]["SiftCallback"]["attributes"]["saved"]["launch"]
    state_file.write_text(json.dumps(state))
    assert resumed(checkpoint, tmp_path, seed=1).state.global_step == 3
