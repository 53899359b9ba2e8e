"""Which checkpoints are whole; resuming from them, refusing the others, and deleting old ones."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import Trainer, TrainingArguments

from sift_trainer import SiftTrainer, WholeCheckpoints, last_whole_checkpoint
from sift_trainer.checkpoints.manifest import MANIFEST, check_whole, rotate
from sift_trainer.checkpoints.whole_files import write_json
from tests.training import Rows, arguments, bert, quick

SAVING = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}


class Whole(WholeCheckpoints, SiftTrainer):
    pass


class WholePlain(WholeCheckpoints, Trainer):
    pass


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with checkpoint-1 and checkpoint-2, with and without manifests."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("whole", "sift")}
    for kind, trainer in (("whole", Whole), ("sift", SiftTrainer)):
        trainer(bert(), arguments(folders[kind], **SAVING), train_dataset=Rows(48)).train()
    return folders


@pytest.fixture
def copied(written: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda kind: shutil.copytree(written[kind], tmp_path / kind)


def test_sift_trainer_saves_the_files_of_the_stock_trainer(
    written: dict[str, Path], tmp_path: Path
) -> None:
    args = TrainingArguments(**quick(tmp_path, **SAVING))
    Trainer(bert(), args, train_dataset=Rows(48)).train()
    stock = {path.name for path in (tmp_path / "checkpoint-2").iterdir()}
    assert {path.name for path in (written["sift"] / "checkpoint-2").iterdir()} == stock


def test_manifest_lists_every_file_with_its_size(tmp_path: Path) -> None:
    """Of a plain Trainer too."""
    args = TrainingArguments(**quick(tmp_path, **SAVING))
    WholePlain(bert(), args, train_dataset=Rows(48)).train()
    checkpoint = tmp_path / "checkpoint-2"
    there = {path.name: path.stat().st_size for path in checkpoint.iterdir()}
    assert there.pop(MANIFEST)
    assert json.loads((checkpoint / MANIFEST).read_text())["files"] == there


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


DAMAGES = [
    *(("model.safetensors", damage) for damage in (shorten, halve, empty, lengthen, Path.unlink)),
    *((name, damage) for name in ("optimizer.pt", "rng_state.pth") for damage in (halve, empty)),
    ("trainer_state.json", Path.unlink),
    ("trainer_state.json", halve),
]


@pytest.mark.parametrize("kind", ["whole", "sift"])
@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_damaged_checkpoints_are_half_written(
    kind: str,
    name: str,
    damage: Callable[[Path], None],
    copied: Callable[[str], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = copied(kind)
    assert last_whole_checkpoint(folder) == str(folder / "checkpoint-2")
    damage(folder / "checkpoint-2" / name)
    caplog.clear()
    assert last_whole_checkpoint(folder) == str(folder / "checkpoint-1")
    warned = [record.message for record in caplog.records if "half-written" in record.message]
    assert len(warned) == 1
    assert warned[0].startswith(f"{folder}/checkpoint-2 is half-written")
    assert name in warned[0] or "no weights" in warned[0]
    with pytest.raises(ValueError, match=f"half-written: .*; resume from {folder}/checkpoint-1"):
        check_whole(folder / "checkpoint-2")
    check_whole(folder / "checkpoint-1")


def test_checkpoint_without_a_manifest_counts_by_its_content(
    written: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    assert last_whole_checkpoint(written["sift"]) == str(written["sift"] / "checkpoint-2")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"no {MANIFEST}" in record.message


def test_the_files_of_all_processes_are_needed(copied: Callable[[str], Path]) -> None:
    checkpoint = copied("sift") / "checkpoint-2"
    for rank in (0, 1, 3):
        shutil.copy(checkpoint / "rng_state.pth", checkpoint / f"rng_state_{rank}.pth")
    with pytest.raises(ValueError, match=r"rng_state_2\.pth is missing"):
        check_whole(checkpoint)


def test_steps_are_compared_as_numbers(tmp_path: Path, copied: Callable[[str], Path]) -> None:
    folder = copied("whole")
    (folder / "checkpoint-1").rename(folder / "checkpoint-9")
    (folder / "checkpoint-2").rename(folder / "checkpoint-10")
    (folder / "checkpoint-final").mkdir()
    assert last_whole_checkpoint(folder) == str(folder / "checkpoint-10")
    assert last_whole_checkpoint(tmp_path / "nowhere") is None


def test_half_written_checkpoints_do_not_push_out_whole_ones(copied: Callable[[str], Path]) -> None:
    folder = copied("whole")
    shutil.copytree(folder / "checkpoint-1", folder / "checkpoint-3")
    empty(folder / "checkpoint-3" / MANIFEST)
    rotate(folder, None, None)
    assert len(list(folder.iterdir())) == 3
    rotate(folder, 1, None)
    assert [path.name for path in folder.iterdir()] == ["checkpoint-2"]


def test_training_resumes_from_whole_checkpoints_only(copied: Callable[[str], Path]) -> None:
    folder = copied("whole")
    whole, half = folder / "checkpoint-1", folder / "checkpoint-2"
    halve(half / "optimizer.pt")
    trainer = Whole(bert(), arguments(folder, max_steps=3), train_dataset=Rows(48))
    with pytest.raises(ValueError, match=rf"optimizer\.pt has .*; resume from {whole}"):
        trainer.train(resume_from_checkpoint=str(half))
    assert trainer.state.global_step == 0
    assert trainer.train(resume_from_checkpoint=str(whole)).global_step == 3
    halve(whole / "model.safetensors")
    with pytest.raises(ValueError, match=r"no whole checkpoint in .*; leave resume_from"):
        trainer.train(resume_from_checkpoint=True)


def test_best_checkpoint_is_kept(tmp_path: Path) -> None:
    """Transformers gets its limit back in time for the next checkpoint."""
    args = arguments(
        tmp_path,
        **{**SAVING, "max_steps": 5},
        save_total_limit=2,
        eval_strategy="steps",
        eval_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,  # the loss falls, so the first is the best
    )
    Whole(bert(), args, train_dataset=Rows(48), eval_dataset=Rows(8)).train()
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-1", "checkpoint-5"}


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"a": [1, "ä"]})

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": [1, "ä"]}
    assert list(path.parent.iterdir()) == [path]
