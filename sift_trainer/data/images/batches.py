"""Rows of images and the collator that decodes, augments and normalises a batch of them.

Rows have the fields that image classifiers of transformers are called with, `pixel_values` and
`labels`, so that a Trainer drops none of them. What a training set gives is raw, either uint8
pixels or a `StoredImage`, and is augmented by the collator in the dataloader's workers; what an
evaluation set gives is float32 and is only stacked. One collator serves both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info
from transformers.utils import logging

from sift_trainer.data.images.augmentation import (
    crop_flip,
    normalize,
    random_flip,
    resized_crop_boxes,
    seeded_generator,
)
from sift_trainer.data.images.decoding import (
    StoredImage,
    decode_center,
    decode_crop,
    open_image,
)
from sift_trainer.data.images.sources import Split

logger = logging.get_logger(__name__)

_WORKERS = 1024  # slots of the shared count; more workers than that share some


class PixelDataset(Dataset[dict[str, Any]]):
    """Decoded images in memory; a row is uint8 `pixel_values`, (3, height, width), and `labels`.

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

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Many rows at once, as the dataloader asks for them."""
        pixels, labels = self.pixels[indices], self.labels[indices].tolist()
        return [
            {"pixel_values": image, "labels": label}
            for image, label in zip(pixels, labels, strict=True)
        ]


class StoredDataset(Dataset[dict[str, Any]]):
    """Images that stay encoded; a row is a `StoredImage` in `pixel_values`, and `labels`."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "pixel_values": self.split.images[index],
            "labels": int(self.split.labels[index]),
        }


@dataclass
class EvaluationDataset(Dataset[dict[str, Any]]):
    """Images as they are evaluated, always the same: normalised float32, (3, size, size).

    Stored images are resized so that the shorter side has 256/224 of `image_size`, and their middle
    is taken. An image that cannot be read ends the evaluation with its name, always: another in its
    place would count twice.
    """

    dataset: PixelDataset | StoredDataset
    image_size: int
    mean: Sequence[float]
    std: Sequence[float]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Many rows at once, as the dataloader asks for them."""
        rows = [self.dataset[index] for index in indices]
        pixels = torch.stack([self._pixels(row["pixel_values"]) for row in rows])
        images = normalize(pixels, self.mean, self.std)
        return [
            {"pixel_values": image, "labels": row["labels"]}
            for image, row in zip(images, rows, strict=True)
        ]

    def _pixels(self, image: Tensor | StoredImage) -> Tensor:
        if isinstance(image, Tensor):
            return image
        return decode_center(image, round(self.image_size * 256 / 224), self.image_size)


@dataclass
class ImageCollator:
    """Batches with `pixel_values`, float32 (n, 3, size, size), and `labels`, int64 (n,).

    Rows in uint8 are cropped from a padded frame and flipped (`crop_flip`), stored images become a
    randomly placed part at `image_size`, flipped likewise (`resized_crop_boxes`); both are
    normalised. Rows in float32 are stacked as they are.

    With ``seed=None`` crops and flips come from torch's global generator, which is not exact when a
    run resumes amid an epoch: the Trainer restores it only after the first batches are collated.
    With a `seed` they are a function of the seed and the images of the batch, see
    `seeded_generator`.

    Args:
        image_size: height and width of stored images after cropping.
        mean: per channel, where 1 is full.
        std: likewise.
        seed: see above.
        skip_unreadable: put the next image of the batch in the place of one that cannot be read,
            with its label; each is logged by name, and `unreadable` counts them.
    """

    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    seed: int | None = None
    skip_unreadable: bool = False
    # One slot per worker, in shared memory: they count in parallel without a lock.
    _unreadable: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._unreadable = torch.zeros(_WORKERS, dtype=torch.int64)
        self._unreadable.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def unreadable(self) -> int:
        """Images replaced so far, by this process and its dataloader workers."""
        return int(self._unreadable.sum())

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch of rows.

        Raises:
            ValueError: an image cannot be read, naming it, and `skip_unreadable` is off or no
                image of the batch can be read.
        """
        images = [feature["pixel_values"] for feature in features]
        labels = torch.tensor([int(feature["labels"]) for feature in features])
        if isinstance(images[0], StoredImage):
            pixels, source = self._decoded(images)
            return {"pixel_values": self._normal(pixels), "labels": labels[source]}
        batch = torch.stack(images)
        if batch.dtype == torch.uint8:
            generator = seeded_generator(self.seed, [batch.numpy().tobytes()])
            batch = self._normal(crop_flip(batch, generator))
        return {"pixel_values": batch, "labels": labels}

    def _normal(self, pixels: Tensor) -> Tensor:
        return normalize(pixels, self.mean, self.std)

    def _decoded(self, images: Sequence[StoredImage]) -> tuple[Tensor, list[int]]:
        """Cropped and flipped pixels, and which row of the batch each is of."""
        generator = seeded_generator(self.seed, [f"{image.name}\n".encode() for image in images])
        failures: dict[int, ValueError] = {}
        opened = {}
        for row, image in enumerate(images):
            try:
                opened[row] = open_image(image)
            except ValueError as error:
                failures[row] = error
        sizes = [opened[row].size if row in opened else (1, 1) for row in range(len(images))]
        boxes = resized_crop_boxes(torch.tensor(sizes), generator).tolist()
        decoded: dict[int, Tensor] = {}
        for row, picture in opened.items():
            try:
                decoded[row] = decode_crop(
                    images[row].place, picture, tuple(boxes[row]), self.image_size
                )
            except ValueError as error:
                failures[row] = error
        source = self._replaced(len(images), decoded, failures)
        return random_flip(torch.stack([decoded[row] for row in source]), generator), source

    def _replaced(
        self, count: int, decoded: Mapping[int, Tensor], failures: Mapping[int, ValueError]
    ) -> list[int]:
        if failures and not (self.skip_unreadable and decoded):
            raise failures[min(failures)]
        worker = get_worker_info()
        slot = 0 if worker is None else 1 + worker.id % (_WORKERS - 1)
        self._unreadable[slot] += len(failures)
        for row in sorted(failures):
            logger.warning(
                f"{failures[row]}; another image of its batch takes its place "
                f"(skip_unreadable=True), {self.unreadable} so far"
            )
        readable = sorted(decoded)
        return [
            row
            if row in decoded
            else next((later for later in readable if later > row), readable[0])
            for row in range(count)
        ]
