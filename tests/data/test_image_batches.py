"""Batches of images: exact on resume, and what an image that cannot be read does amid an epoch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

from sift_trainer.data.images import ImageData
from sift_trainer.data.images.batches import EvaluationDataset, ImageCollator, PixelDataset
from tests.data.image_folders import generic

torch.set_num_threads(1)


def batch_of(data: ImageData, rows: list[int]) -> dict[str, torch.Tensor]:
    return data.collator([data.train[row] for row in rows])


@pytest.mark.parametrize("kind", ["pixels", "files"])
def test_augmentation_follows_from_seed_and_batch(kind: str, folders: Path) -> None:
    if kind == "files":
        first, other = (generic(folders, augmentation_seed=seed) for seed in (3, 4))
    else:
        pixels = torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8)
        rows = PixelDataset(pixels, torch.arange(6))
        evaluated = EvaluationDataset(rows, 32, (0.5,) * 3, (0.2,) * 3)
        first, other = (
            ImageData(rows, evaluated, ImageCollator(32, (0.5,) * 3, (0.2,) * 3, seed), [], 0)
            for seed in (3, 4)
        )
    batch = batch_of(first, [0, 2, 5])
    torch.rand(7)  # the global generator has no part in it
    assert torch.equal(batch_of(first, [0, 2, 5])["pixel_values"], batch["pixel_values"])
    assert batch["labels"].tolist() == [first.train[row]["labels"] for row in (0, 2, 5)]
    assert batch["pixel_values"].dtype == torch.float32
    same_first = batch_of(first, [0, 2, 4])["pixel_values"][0]  # with another neighbour
    assert not torch.equal(same_first, batch["pixel_values"][0])
    assert not torch.equal(batch_of(other, [0, 2, 5])["pixel_values"], batch["pixel_values"])
    stacked = first.collator([first.test[0]] * 2)["pixel_values"]
    assert torch.equal(stacked[1], first.test[0]["pixel_values"])  # evaluation is not augmented


def test_augmentation_does_not_depend_on_where_the_folder_is(folders: Path, tmp_path: Path) -> None:
    before = batch_of(generic(folders), [0, 1, 4])
    after = batch_of(generic(folders.rename(tmp_path / "moved")), [0, 1, 4])
    assert torch.equal(before["pixel_values"], after["pixel_values"])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_amid_an_epoch(workers: int, folders: Path) -> None:
    data, skipping = generic(folders), generic(folders, skip_unreadable=True)
    whole = list(DataLoader(skipping.train, 3, collate_fn=skipping.collator))
    for name in ("apple/1.jpg", "bear/0.jpg", "bear/1.jpg"):  # rows 1, 4 and 5
        (folders / "train" / name).write_bytes(b"\xff\xd8 gone")

    def batches(data: ImageData) -> list[dict[str, torch.Tensor]]:
        return list(DataLoader(data.train, 3, num_workers=workers, collate_fn=data.collator))

    with pytest.raises(ValueError, match=r"pictures/train/apple/1\.jpg cannot be read"):
        batches(data)
    first, second = batches(skipping)
    assert skipping.collator.unreadable == 3
    assert first["labels"].tolist() == [0, 1, 1]
    assert second["labels"].tolist() == [1, 1, 1]  # row 3, three times
    assert first["pixel_values"].shape == (3, 3, 16, 16)
    # The others are drawn as without the accident.
    assert torch.equal(first["pixel_values"][[0, 2]], whole[0]["pixel_values"][[0, 2]])
    assert torch.equal(second["pixel_values"][0], whole[1]["pixel_values"][0])
    batches(skipping)
    assert skipping.collator.unreadable == 6
    with pytest.raises(ValueError, match=r"bear/0\.jpg cannot be read"):
        skipping.collator([skipping.train[4], skipping.train[5]])  # none is left to take its place


def test_an_evaluation_never_skips(folders: Path) -> None:
    data = generic(folders, skip_unreadable=True)
    (folders / "test" / "baby" / "0.jpg").write_bytes(b"gone")
    with pytest.raises(ValueError, match=r"pictures/test/baby/0\.jpg cannot be read"):
        data.test[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_sees_what_the_whole_one_saw(
    workers: int, folders: Path, tmp_path: Path
) -> None:
    """Amid the second epoch, with the Trainer's own loop; equal to the last bit."""
    data = generic(folders, augmentation_seed=3)

    def run(name: str, **resume: Any) -> list[torch.Tensor]:
        torch.manual_seed(0)
        config = ResNetConfig(
            embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=3, layer_type="basic"
        )
        args = TrainingArguments(
            str(tmp_path / name),
            per_device_train_batch_size=2,
            max_steps=6,  # an epoch has 3
            save_steps=4,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            dataloader_num_workers=workers,
        )
        model = ResNetForImageClassification(config)
        Trainer(model, args, data.collator, data.train).train(**resume)
        return list(model.state_dict().values())

    whole = run("whole")
    resumed = run("resumed", resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))


def test_an_evaluation_through_the_trainer(folders: Path, tmp_path: Path) -> None:
    """The same collator serves it, and every batch size gives the same loss."""
    data = generic(folders)
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1], num_labels=3)
    model = ResNetForImageClassification(config)
    losses = []
    for batch_size in (1, 3):
        args = TrainingArguments(
            str(tmp_path), per_device_eval_batch_size=batch_size, report_to="none", use_cpu=True
        )
        trainer = Trainer(model, args, data.collator, data.train, data.test)
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
