"""Image classification data: CIFAR-100 and Food-101 (section 7.2 of the paper), or any classes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sift_trainer.reproduction.images.arguments import ImageArguments
from sift_trainer.reproduction.images.batches import (
    EvaluationDataset,
    ImageCollator,
    PixelDataset,
    StoredDataset,
)
from sift_trainer.reproduction.images.decoding import StoredImage, check_image, decode
from sift_trainer.reproduction.images.sources import find_images

T = TypeVar("T")


@dataclass(frozen=True)
class ImageData:
    """Images of both splits as a Trainer takes them.

    Attributes:
        classes: names, in the order of the labels.
    """

    train: PixelDataset | StoredDataset
    test: EvaluationDataset
    collator: ImageCollator
    classes: list[str]


def load_images(args: ImageArguments, check: bool = True, progress: bool = True) -> ImageData:
    """The images that `args` describes. CIFAR-100 is decoded into memory (180 MB); other images are
    decoded each time they are used.

    Args:
        check: read every image first; CIFAR-100 always is.
        progress: show a bar.

    Raises:
        ValueError, OSError: a source, an image or a label cannot be used.
    """
    found = find_images(args)
    defaults, size = args.defaults, args.setting("image_size")
    expected = {None, len(found.classes)}
    if args.setting("label_column") == defaults.label_column and defaults.classes not in expected:
        raise ValueError(
            f"there are {len(found.classes)} classes, such as {found.classes[:3]}, and the data "
            f"set has {defaults.classes}; complete its files, or set dataset: generic"
        )
    splits: list[PixelDataset | StoredDataset] = []
    for number, (name, rows) in enumerate(zip(("train", "test"), found.splits, strict=True)):
        stored = StoredDataset(rows)
        _check_labels(name, stored.labels, found.classes)
        if args.max_images_per_class is not None:
            chosen = choose_per_class(stored.labels, args.max_images_per_class, (0, number))
            stored = StoredDataset(rows.select(chosen))
        if defaults.augmentation == "crop_flip":
            splits.append(decode_images(stored, size, name, progress))
            continue
        if check:
            _read_each(check_image, stored, f"checking {name}", progress)
        splits.append(stored)
    train, test = splits
    return ImageData(
        train,
        EvaluationDataset(test, size, defaults.mean, defaults.std),
        ImageCollator(size, defaults.mean, defaults.std, args.augmentation_seed),
        found.classes,
    )


def choose_per_class(labels: Tensor, limit: int, seed: tuple[int, ...]) -> list[int]:
    """Rows, in order, with at most `limit` of each class, drawn at random without replacement.

    The rows of a class depend on `seed`, the class and its number of images alone.
    """
    chosen: list[int] = []
    for label in sorted(set(labels.tolist())):
        rows = (labels == label).nonzero().squeeze(1).numpy()
        order = np.random.default_rng([*seed, label]).permutation(len(rows))
        chosen += rows[order[:limit]].tolist()
    return sorted(chosen)


def _check_labels(split: str, labels: Tensor, classes: list[str]) -> None:
    wrong = labels[(labels < 0) | (labels >= len(classes))]
    if len(wrong):
        raise ValueError(
            f"{split} has the label {int(wrong[0])}; labels must be 0 to {len(classes) - 1}"
        )
    lacking = sorted(set(range(len(classes))) - set(labels.tolist()))
    if lacking and (split == "train" or len(labels) == 0):
        raise ValueError(f"{split} has no image of the class {classes[lacking[0]]!r}; add some")


def decode_images(
    dataset: StoredDataset, size: int, name: str, progress: bool = True
) -> PixelDataset:
    """Images of `size` by `size` pixels, decoded into memory."""

    def read(image: StoredImage) -> Tensor:
        pixels = decode(image)
        height, width = pixels.shape[1:]
        if (height, width) != (size, size):
            raise ValueError(
                f"{image.name} has {width} x {height} pixels and must have {size} x {size}; for "
                "images of other sizes set dataset: generic"
            )
        return pixels

    decoded = _read_each(read, dataset, f"decoding {name}", progress)
    return PixelDataset(torch.stack(decoded), dataset.labels)


def _read_each(
    read: Callable[[StoredImage], T], dataset: StoredDataset, doing: str, progress: bool
) -> list[T]:
    errors: list[str] = []
    found: list[T] = []
    for row in tqdm(range(len(dataset)), desc=doing, unit="images", disable=not progress):
        try:
            found.append(read(dataset[row]["pixel_values"]))
        except ValueError as error:
            errors.append(str(error))
    if errors:
        shown = "\n  ".join(errors[:5])
        raise ValueError(
            f"{doing}: {len(errors)} of {len(dataset)} images cannot be read; replace or remove "
            f"them:\n  {shown}"
        )
    return found
