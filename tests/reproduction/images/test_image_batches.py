"""Batches of images: exact on resume, and an image that cannot be read is named."""

from pathlib import Path

import pytest
import torch

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
            ImageData(rows, evaluated, ImageCollator(32, (0.5,) * 3, (0.2,) * 3, seed), [])
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
