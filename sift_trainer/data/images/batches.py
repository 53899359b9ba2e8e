"""Rows of images, and the collator that decodes, augments and normalises a batch of them.

The fields of a row are those of the image classifiers of transformers, `pixel_values` and `labels`,
so that a Trainer drops none of them. A row of a training set has uint8 pixels or a `StoredImage`,
which the collator augments in the workers of the dataloader. A row of an evaluation set has
finished float32 pixels, which the same collator only stacks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sift_trainer.data.images.augmentation import (
    crop_flip,
    normalize,
    random_flip,
    resized_crop_boxes,
    seeded_generator,
)
from sift_trainer.data.images.decoding import StoredImage, decode_center, decode_crop, open_image


class PixelDataset(Dataset[dict[str, Any]]):
    """Decoded images in memory; a row has uint8 `pixel_values`, (3, height, width), and `labels`.

    Args:
        pixels: uint8, (n, 3, height, width).
        labels: int64, (n,).
    """

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels = pixels
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": self.pixels[index], "labels": int(self.labels[index])}


class StoredDataset(Dataset[dict[str, Any]]):
    """Images that stay encoded; a row has a `StoredImage` as `pixel_values`, and `labels`.

    Args:
        rows: with the columns of `Found`.
    """

    def __init__(self, rows: datasets.Dataset) -> None:
        self.rows = rows
        self.labels = torch.tensor(rows["label"][:], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        image = row["image"] or {"bytes": b""}  # a table may have empty cells
        content = Path(image["path"]) if image["bytes"] is None else image["bytes"]
        return {"pixel_values": StoredImage(row["name"], content), "labels": row["label"]}

    def select(self, indices: Sequence[int]) -> "StoredDataset":
        """These rows, in this order."""
        return StoredDataset(self.rows.select(indices))


@dataclass
class EvaluationDataset(Dataset[dict[str, Any]]):
    """Images as they are evaluated, always the same: normalised float32, (3, size, size).

    A stored image is resized so that its shorter side has 256/224 of `image_size`, and its middle
    is taken.
    """

    dataset: PixelDataset | StoredDataset
    image_size: int
    mean: Sequence[float]
    std: Sequence[float]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.dataset[index]
        image = row["pixel_values"]
        if isinstance(image, StoredImage):
            image = decode_center(image, round(self.image_size * 256 / 224), self.image_size)
        return {**row, "pixel_values": normalize(image, self.mean, self.std)}


@dataclass
class ImageCollator:
    """Batches with `pixel_values`, float32 (n, 3, size, size), and `labels`, int64 (n,).

    uint8 rows are cropped from a padded frame and flipped (`crop_flip`). Of a stored image a random
    part is resized to `image_size` and flipped (`resized_crop_boxes`). Both are normalised. float32
    rows are stacked as they are.

    Args:
        image_size: height and width of stored images after cropping.
        mean: per channel, where 1 is full intensity.
        std: likewise.
        seed: makes crops and flips a function of the seed and of the images of the batch, see
            `seeded_generator`. None uses torch's global generator, and then a run that is resumed
            within an epoch is not exact: the Trainer restores that generator only after the first
            batches are collated.
    """

    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    seed: int | None = None

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch of rows.

        Raises:
            ValueError: an image cannot be read; names it.
        """
        images = [feature["pixel_values"] for feature in features]
        labels = torch.tensor([int(feature["labels"]) for feature in features])
        if isinstance(images[0], StoredImage):
            pixels = self._random_parts(images)
        else:
            pixels = torch.stack(images)
            if pixels.dtype != torch.uint8:
                return {"pixel_values": pixels, "labels": labels}
            pixels = crop_flip(pixels, seeded_generator(self.seed, [pixels.numpy().tobytes()]))
        return {"pixel_values": normalize(pixels, self.mean, self.std), "labels": labels}

    def _random_parts(self, images: Sequence[StoredImage]) -> Tensor:
        """Cropped, resized and flipped; uint8, (n, 3, size, size)."""
        generator = seeded_generator(self.seed, [f"{image.name}\n".encode() for image in images])
        pictures = [open_image(image) for image in images]
        sizes = torch.tensor([picture.size for picture in pictures])
        boxes = resized_crop_boxes(sizes, generator).tolist()
        parts = [
            decode_crop(image, picture, box, self.image_size)
            for image, picture, box in zip(images, pictures, boxes, strict=True)
        ]
        return random_flip(torch.stack(parts), generator)
