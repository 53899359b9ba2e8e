"""Batches of images: exact on resume, and an image that cannot be read is named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

from sift_trainer.reproduction.images import ImageData
from sift_trainer.reproduction.images.batches import EvaluationDataset, ImageCollator, PixelDataset
from tests.reproduction.images.image_folders import generic

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


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_sees_what_the_whole_one_saw(
    workers: int, folders: Path, tmp_path: Path
) -> None:
    """Within the second epoch, with the Trainer's own loop; equal to the last bit."""
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
