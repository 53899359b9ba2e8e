"""Which checkpoints count as whole, and what is taken, refused and rotated away."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import Trainer, TrainingArguments

from sift_trainer import SiftTrainer, last_whole_checkpoint
from sift_trainer.checkpoints.manifest import MANIFEST, check_whole, rotate, write_manifest
from tests.training import Rows, arguments, bert, quick

SAVING = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a `SiftTrainer` and of a plain Trainer, with checkpoint-1 and checkpoint-2."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("sift", "plain")}
    SiftTrainer(bert(), arguments(folders["sift"], **SAVING), train_dataset=Rows(48)).train()
    plain = TrainingArguments(**quick(folders["plain"], **SAVING))
    Trainer(bert(), plain, train_dataset=Rows(48)).train()
    return folders


@pytest.fixture
def copied(written: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def copy(kind: str) -> Path:
        return shutil.copytree(written[kind], tmp_path / kind)

    return copy


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


BINARY = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")
DAMAGES = [
    *((name, damage) for name in BINARY for damage in (halve, empty)),
    ("model.safetensors", shorten),
    ("model.safetensors", Path.unlink),
    ("trainer_state.json", Path.unlink),
    ("trainer_state.json", halve),
    ("config.json", empty),
]


@pytest.mark.parametrize("kind", ["sift", "plain"])
@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_damaged_files_are_noticed(
    kind: str,
    name: str,
    damage: Callable[[Path], None],
    copied: Callable[[str], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = copied(kind)
    assert last_whole_checkpoint(folder) == str(folder / "checkpoint-2")
    caplog.clear()
    damage(folder / "checkpoint-2" / name)
    assert last_whole_checkpoint(folder) == str(folder / "checkpoint-1")
    said = [record.message for record in caplog.records if "half-written" in record.message]
    assert len(said) == 1
    assert said[0].startswith(f"{folder}/checkpoint-2 is half-written")
    assert name in said[0] or "no weights" in said[0]
    with pytest.raises(ValueError, match="checkpoint-2 is half-written") as error:
        check_whole(folder / "checkpoint-2")
    assert f"The newest whole checkpoint is {folder}/checkpoint-1" in str(error.value)
    check_whole(folder / "checkpoint-1")


def test_manifest_lists_every_file_with_its_size(written: dict[str, Path]) -> None:
    checkpoint = written["sift"] / "checkpoint-2"
    listed = json.loads((checkpoint / MANIFEST).read_text())["files"]
    there = {path.name: path.stat().st_size for path in checkpoint.iterdir()}
    assert there.pop(MANIFEST)
    assert listed == there
    assert set(BINARY) < set(listed)


def test_plain_checkpoint_is_said_to_be_judged_by_its_content(
    written: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    assert last_whole_checkpoint(written["plain"]) == str(written["plain"] / "checkpoint-2")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"no {MANIFEST}" in record.message


def test_without_its_manifest_a_checkpoint_has_to_be_named(copied: Callable[[str], Path]) -> None:
    """All of its files are there: a copy may have left the manifest behind. But latest is strict,
    as the processes may not have finished."""
    folder = copied("sift")
    checkpoint = folder / "checkpoint-2"
    (checkpoint / MANIFEST).unlink()
    assert last_whole_checkpoint(folder) == str(folder / "checkpoint-1")
    check_whole(checkpoint)


def test_every_process_has_to_have_written_its_part(copied: Callable[[str], Path]) -> None:
    checkpoint = copied("plain") / "checkpoint-2"
    for rank in (0, 1, 3):
        shutil.copy(checkpoint / "rng_state.pth", checkpoint / f"rng_state_{rank}.pth")
    with pytest.raises(ValueError, match=r"rng_state_2\.pth is missing"):
        check_whole(checkpoint)


def test_shards_that_the_index_names_have_to_be_there(copied: Callable[[str], Path]) -> None:
    checkpoint = copied("plain") / "checkpoint-2"
    shard = "model-00002-of-00002.safetensors"
    index = {"weight_map": {"a": "model.safetensors", "b": shard}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=f"names {shard}, which is missing"):
        check_whole(checkpoint)


def test_steps_are_compared_as_numbers(tmp_path: Path, copied: Callable[[str], Path]) -> None:
    folder = copied("sift")
    (folder / "checkpoint-1").rename(folder / "checkpoint-9")
    (folder / "checkpoint-2").rename(folder / "checkpoint-10")
    (folder / "checkpoint-final").mkdir()
    assert last_whole_checkpoint(folder) == str(folder / "checkpoint-10")
    assert last_whole_checkpoint(tmp_path / "nowhere") is None


def test_half_written_ones_do_not_push_out_whole_ones(copied: Callable[[str], Path]) -> None:
    folder = copied("sift")
    shutil.copytree(folder / "checkpoint-1", folder / "checkpoint-3")
    (folder / "checkpoint-3" / MANIFEST).unlink()
    rotate(folder, None, None)
    assert len(list(folder.iterdir())) == 3
    rotate(folder, 1, None)
    assert [path.name for path in folder.iterdir()] == ["checkpoint-2"]


def test_training_refuses_and_takes_what_these_say(copied: Callable[[str], Path]) -> None:
    folder = copied("sift")
    whole, half = folder / "checkpoint-1", folder / "checkpoint-2"
    halve(half / "optimizer.pt")
    trainer = SiftTrainer(bert(), arguments(folder, max_steps=3), train_dataset=Rows(48))
    with pytest.raises(ValueError, match=rf"optimizer\.pt has .*{whole}: resume from that"):
        trainer.train(resume_from_checkpoint=str(half))
    assert trainer.state.global_step == 0
    assert trainer.train(resume_from_checkpoint=str(whole)).global_step == 3
    halve(whole / "model.safetensors")
    with pytest.raises(ValueError, match=r"no whole checkpoint in .*checkpoint-2 \(optimizer"):
        trainer.train(resume_from_checkpoint=True)
    shutil.rmtree(folder)
    with pytest.raises(ValueError, match=r"no whole checkpoint in .*; leave resume_from"):
        trainer.train(resume_from_checkpoint=True)


def test_best_checkpoint_outlives_the_rotation(tmp_path: Path) -> None:
    """Saved again after the rotation is held back: the limit is Transformers' own."""
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
    SiftTrainer(bert(), args, train_dataset=Rows(48), eval_dataset=Rows(8)).train()
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-1", "checkpoint-5"}


def test_manifest_is_renewed(copied: Callable[[str], Path]) -> None:
    checkpoint = copied("sift") / "checkpoint-2"
    shorten(checkpoint / "model.safetensors")
    write_manifest(checkpoint)
    check_whole(checkpoint)
