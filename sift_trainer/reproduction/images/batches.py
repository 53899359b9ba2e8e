"""Rows of images, and the collator that decodes, augments and normalises a batch of them.

In a training set `pixel_values` is uint8 or a `StoredImage`, which the collator augments in the
workers of the dataloader. In an evaluation set it is finished float32, which it only stacks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sift_trainer.reproduction.images.augmentation import (
    crop_flip,
    normalize,
    random_flip,
    resized_crop_boxes,
    seeded_generator,
)
from sift_trainer.reproduction.images.decoding import (
    StoredImage,
    decode_center,
    decode_crop,
    open_image,
)


@dataclass
class PixelDataset(Dataset[dict[str, Any]]):
    """Decoded images in memory: uint8 (n, 3, height, width), and their labels, int64 (n,)."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": self.pixels[index], "labels": int(self.labels[index])}


class StoredDataset(Dataset[dict[str, Any]]):
    """Images that stay encoded, in rows of `Found`; `pixel_values` is a `StoredImage`."""

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


@dataclass
class EvaluationDataset(Dataset[dict[str, Any]]):
    """Images for evaluation: normalised float32, (3, size, size).

    Of a stored image it is the middle, after its shorter side becomes 256/224 of `image_size`.
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

    uint8 rows are augmented by `crop_flip`, stored images by `resized_crop_boxes` and a flip.

    Args:
        image_size: height and width of stored images after cropping.
        seed: makes crops and flips a function of the seed and of the images of the batch, see
            `seeded_generator`. With None a run that is resumed within an epoch is not exact.
        channels_last: memory layout of the images; the values are the same.
    """

    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    seed: int | None = None
    channels_last: bool = False

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch of rows; raises a `ValueError` that names an image that cannot be read."""
        images = [feature["pixel_values"] for feature in features]
        labels = torch.tensor([int(feature["labels"]) for feature in features])
        if isinstance(images[0], StoredImage):
            pixels = self._random_parts(images)
        else:
            pixels = torch.stack(images)
            if pixels.dtype == torch.uint8:
                pixels = crop_flip(pixels, seeded_generator(self.seed, [pixels.numpy().tobytes()]))
        if pixels.dtype == torch.uint8:
            pixels = normalize(pixels, self.mean, self.std)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return {"pixel_values": pixels.contiguous(memory_format=layout), "labels": labels}

    def _random_parts(self, images: Sequence[StoredImage]) -> Tensor:
        generator = seeded_generator(self.seed, [f"{image.name}\n".encode() for image in images])
        pictures = [open_image(image) for image in images]
        sizes = torch.tensor([picture.size for picture in pictures])
        boxes = resized_crop_boxes(sizes, generator).tolist()
        parts = [
            decode_crop(image, picture, box, self.image_size)
            for image, picture, box in zip(images, pictures, boxes, strict=True)
        ]
        return random_flip(torch.stack(parts), generator)
