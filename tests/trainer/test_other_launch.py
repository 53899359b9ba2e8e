"""A checkpoint is resumed with the order of the data that it was written with, or not at all."""

from pathlib import Path
from typing import Any

import pytest

from sift_trainer import SiftTrainer
from tests.training import Rows, arguments, bert

FIRST = {"max_steps": 2, "save_strategy": "steps", "save_steps": 2, "sift_warmup_steps": 0}
CHANGES: list[tuple[dict[str, Any], str, str]] = [
    ({"per_device_train_batch_size": 2}, "candidates per process=8", "=4"),
    ({"sift_keep_ratio": 0.25}, "candidates per process=8", "=16"),
    ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps=1", "=2"),
    ({"seed": 1}, "seed=42", "=1"),
    ({"data_seed": 1}, "data_seed=None", "=1"),
    ({"dataloader_drop_last": True}, "dataloader_drop_last=False", "=True"),
    ({"accelerator_config": {"split_batches": True}}, "split_batches=False", "=True"),
    ({"rows": 64, "seed": 7}, "seed=42, rows of training data=48", "rows of training data=64"),
]


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


@pytest.mark.parametrize(("changes", "was", "now"), CHANGES, ids=str)
def test_another_order_is_refused_with_both_values(
    changes: dict[str, Any], was: str, now: str, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="cannot resume") as error:
        resumed(checkpoint, tmp_path, **changes)
    before, after = str(error.value).split("; this run has ", 1)
    assert before.endswith(was)
    assert after.split(".")[0].endswith(now)
    assert "ignore_data_skip=True" in after


def test_a_new_order_is_possible_with_a_warning(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = resumed(checkpoint, tmp_path, ignore_data_skip=True, seed=1)
    assert trainer.state.global_step == 3
    assert trainer.state.log_history[-1]["sift/candidates"] == 3 * 8
    assert "seed=42; this run has seed=1" in caplog.text


def test_more_steps_and_another_learning_rate_keep_the_order(
    checkpoint: Path, tmp_path: Path
) -> None:
    assert resumed(checkpoint, tmp_path, learning_rate=1e-3).state.global_step == 3
