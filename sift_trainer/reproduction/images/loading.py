"""Image classification data: CIFAR-100 and Food-101 (section 7.2 of the paper), or any classes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm
from transformers.utils import logging

from sift_trainer.reproduction.images.arguments import ImageArguments
from sift_trainer.reproduction.images.batches import (
    EvaluationDataset,
    ImageCollator,
    PixelDataset,
    StoredDataset,
)
from sift_trainer.reproduction.images.decoding import StoredImage, check_image, decode
from sift_trainer.reproduction.images.sources import find_images

logger = logging.get_logger(__name__)

T = TypeVar("T")

_NAMED = 5  # unreadable images in a message


@dataclass(frozen=True)
class ImageData:
    """Images of both splits as a Trainer takes them.

    Attributes:
        train: rows that `collator` augments.
        test: rows as they are evaluated.
        collator: for both.
        classes: names, in the order of the labels.
        unreadable: images of train and test that were left out because they cannot be read.
    """

    train: PixelDataset | StoredDataset
    test: EvaluationDataset
    collator: ImageCollator
    classes: list[str]
    unreadable: int


def load_images(args: ImageArguments, check: bool = True, progress: bool = True) -> ImageData:
    """The images that `args` describes. CIFAR-100 is decoded into memory (180 MB); other images are
    decoded each time they are used.

    Args:
        check: read every image first, see `check_images`; CIFAR-100 always is. With
            `skip_unreadable` all processes of a run must pass the same value.
        progress: show a bar.

    Raises:
        ValueError, OSError: see `find_images`, `check_images` and `check_labels`.
    """
    found = find_images(args)
    defaults, size = args.defaults, args.setting("image_size")
    splits: list[PixelDataset | StoredDataset] = []
    unreadable = 0
    for number, (name, rows) in enumerate(zip(("train", "test"), found.splits, strict=True)):
        stored = StoredDataset(rows)
        if args.max_images_per_class is not None:
            seed = (args.subset_seed, number)
            chosen = choose_per_class(stored.labels.numpy(), args.max_images_per_class, seed)
            stored = stored.select(chosen.tolist())
        dataset: PixelDataset | StoredDataset = stored
        if defaults.augmentation == "crop_flip":
            dataset = decode_images(stored, size, args.skip_unreadable, name, progress)
        elif check:
            dataset = check_images(stored, args.skip_unreadable, name, progress)
        unreadable += len(stored) - len(dataset)
        splits.append(dataset)
    train, test = splits
    usual_labels = args.setting("label_column") == defaults.label_column
    expected = defaults.classes if usual_labels else None
    check_labels(train.labels, test.labels, found.classes, expected)
    return ImageData(
        train,
        EvaluationDataset(test, size, defaults.mean, defaults.std),
        ImageCollator(size, defaults.mean, defaults.std, args.augmentation_seed),
        found.classes,
        unreadable,
    )


def choose_per_class(
    labels: NDArray[np.int64], limit: int, seed: tuple[int, ...]
) -> NDArray[np.int64]:
    """Rows, in order, with at most `limit` of each class, drawn at random without replacement.

    The rows of a class depend on `seed`, the class and its number of images alone.
    """
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        order = np.random.default_rng([*seed, int(label)]).permutation(len(rows))
        chosen.append(rows[order[:limit]])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def check_labels(train: Tensor, test: Tensor, classes: list[str], expected: int | None) -> None:
    """Refuse a number of classes that is not `expected`, labels out of range, a class without
    training images, and a test set without images, with a `ValueError`."""
    count = len(classes)
    if expected is not None and count != expected:
        raise ValueError(
            f"there are {count} classes, such as {classes[:3]}, and the data set has {expected}; "
            "complete its files, or set dataset: generic"
        )
    for name, labels in (("train", train), ("test", test)):
        wrong = labels[(labels < 0) | (labels >= count)]
        if len(wrong):
            raise ValueError(
                f"{name} has the label {int(wrong[0])}; there are {count} classes, so labels must "
                f"be 0 to {count - 1}"
            )
        lacking = sorted(set(range(count)) - set(labels.tolist()))
        if lacking and (name == "train" or len(labels) == 0):
            raise ValueError(f"{name} has no image of the class {classes[lacking[0]]!r}; add some")
        if lacking:
            logger.warning(f"{name} has no image of {len(lacking)} of {count} classes")


def check_images(
    dataset: StoredDataset, skip: bool, name: str, progress: bool = True
) -> StoredDataset:
    """The images that can be read, see `check_image`.

    Args:
        skip: whether to leave out the others with a warning.
        name: of the split, for the bar and the messages.

    Raises:
        ValueError: some cannot be read and `skip` is off; names the first few.
    """
    readable = _read_each(check_image, dataset, skip, f"checking {name}", progress)
    return dataset if len(readable) == len(dataset) else dataset.select(list(readable))


def decode_images(
    dataset: StoredDataset, size: int, skip: bool, name: str, progress: bool = True
) -> PixelDataset:
    """All images that can be read and have `size` by `size` pixels, decoded into memory.

    Takes and raises what `check_images` does.
    """

    def read(image: StoredImage) -> Tensor:
        pixels = decode(image)
        height, width = pixels.shape[1:]
        if (height, width) != (size, size):
            raise ValueError(
                f"{image.name} has {width} x {height} pixels and must have {size} x {size}; for "
                "images of other sizes set dataset: generic"
            )
        return pixels

    decoded = _read_each(read, dataset, skip, f"decoding {name}", progress)
    pixels = torch.stack(list(decoded.values())) if decoded else torch.empty(0, 3, size, size)
    return PixelDataset(pixels, dataset.labels[list(decoded)])


def _read_each(
    read: Callable[[StoredImage], T], dataset: StoredDataset, skip: bool, doing: str, progress: bool
) -> dict[int, T]:
    """What `read` returns for each row that it can read."""
    errors: list[str] = []
    found: dict[int, T] = {}
    for row in tqdm(range(len(dataset)), desc=doing, unit="images", disable=not progress):
        try:
            found[row] = read(dataset[row]["pixel_values"])
        except ValueError as error:
            errors.append(str(error))
    if errors:
        shown = "\n  ".join([*errors[:_NAMED], *(["..."] if len(errors) > _NAMED else [])])
        message = f"{doing}: {len(errors)} of {len(dataset)} images cannot be read:\n  {shown}"
        if not skip:
            raise ValueError(
                f"{message}\nReplace or remove them, or set skip_unreadable: true to leave them out"
            )
        logger.warning(f"{message}\nThey are left out (skip_unreadable=True)")
    return found
