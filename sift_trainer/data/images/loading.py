"""Image classification data: CIFAR-100 and Food-101 (section 7.2 of the paper), or any classes."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.utils import logging

from sift_trainer.data.images.arguments import ImageArguments
from sift_trainer.data.images.batches import (
    EvaluationDataset,
    ImageCollator,
    PixelDataset,
    StoredDataset,
)
from sift_trainer.data.images.decoding import check_header, decode
from sift_trainer.data.images.sources import Found, Split, find_images

logger = logging.get_logger(__name__)

_NAMED = 5  # unreadable files in an error


@dataclass(frozen=True)
class ImageData:
    """Images of both splits as a Trainer takes them.

    Attributes:
        train: rows that `collator` augments.
        test: rows as they are evaluated.
        collator: for both.
        classes: names, in the order of the labels.
        unreadable: images that were left out of train and test, since they cannot be read.
    """

    train: PixelDataset | StoredDataset
    test: EvaluationDataset
    collator: ImageCollator
    classes: list[str]
    unreadable: int


def load_images(args: ImageArguments, check: bool = True, progress: bool = True) -> ImageData:
    """The images that `args` describes. CIFAR-100 is decoded into memory (150 MB and 30 MB); other
    images are decoded when they are asked for.

    Args:
        check: look at the header and the end of every file first, see `check_images`. With
            `skip_unreadable` it is for every process of a run or for none, since it decides the
            number of rows. CIFAR-100 is always read as a whole.
        progress: show a bar.

    Raises:
        ValueError: naming the file, folder, column or field; see `find_images`,
            `check_labels` and `check_images`.
        ConnectionError: the hub cannot be reached.
    """
    found = find_images(args)
    check_labels(found, _expected_classes(args))
    splits = {"train": found.train, "test": found.test}
    if args.max_images_per_class is not None:
        for number, (name, split) in enumerate(splits.items()):
            rows = choose_per_class(
                split.labels, args.max_images_per_class, seed=(args.subset_seed, number)
            )
            splits[name] = split.choose(rows)
    defaults, size = args.defaults, args.setting("image_size")
    in_memory = defaults.augmentation == "crop_flip"
    datasets: dict[str, PixelDataset | StoredDataset] = {}
    unreadable = 0
    for name, split in splits.items():
        before = len(split.labels)
        if in_memory:
            datasets[name] = decode_images(split, size, args.skip_unreadable, name, progress)
        else:
            if check:
                split = check_images(split, args.skip_unreadable, name, progress)
            datasets[name] = StoredDataset(split)
        unreadable += before - len(datasets[name])
        _check_present(datasets[name], name, found.classes)
    return ImageData(
        datasets["train"],
        EvaluationDataset(datasets["test"], size, defaults.mean, defaults.std),
        ImageCollator(
            size, defaults.mean, defaults.std, args.augmentation_seed, args.skip_unreadable
        ),
        found.classes,
        unreadable,
    )


def choose_per_class(
    labels: NDArray[np.int64], limit: int, seed: tuple[int, ...]
) -> NDArray[np.int64]:
    """Rows, in order, with at most `limit` of each class, drawn at random without replacement.

    A class's rows depend on `seed`, the class and its number of images alone.
    """
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        order = np.random.default_rng([*seed, int(label)]).permutation(len(rows))
        chosen.append(rows[order[:limit]])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def check_labels(found: Found, expected: int | None) -> None:
    """Refuses labels that the model could not be trained on.

    Raises:
        ValueError: a label is out of range, the number of classes is not `expected`, a class has
            no training images, or test has a class that train lacks.
    """
    count = len(found.classes)
    if expected is not None and count != expected:
        raise ValueError(
            f"there are {count} classes, such as {found.classes[:3]}, and the data set has "
            f"{expected}; complete its files, or set dataset: generic"
        )
    for name, split in (("train", found.train), ("test", found.test)):
        wrong = np.flatnonzero((split.labels < 0) | (split.labels >= count))
        if len(wrong):
            row = int(wrong[0])
            raise ValueError(
                f"{name}, row {row}: the label {split.labels[row]} is out of range; there are "
                f"{count} classes, 0 to {count - 1}"
            )
    lacking = set(found.test.labels.tolist()) - set(found.train.labels.tolist())
    if lacking:
        raise ValueError(
            f"test has the class {found.classes[min(lacking)]!r} (label {min(lacking)}), of which "
            "train has no image; add some or remove it from test"
        )
    lacking = set(range(count)) - set(found.train.labels.tolist())
    if lacking:
        raise ValueError(
            f"the class {found.classes[min(lacking)]!r} (label {min(lacking)}) has no image in "
            "train; add some or remove its name"
        )


def check_images(split: Split, skip: bool, name: str, progress: bool = True) -> Split:
    """Looks at every image cheaply: its header, its channels, and whether its file has an end.

    Args:
        skip: leave out what cannot be read, with a warning that counts it.
        name: of the split, for the bar and the errors.

    Returns:
        The images that can be read.

    Raises:
        ValueError: some cannot, naming the first few.
    """
    errors: list[str] = []
    readable: list[int] = []
    for row in _bar(len(split.labels), f"checking {name}", progress):
        try:
            check_header(split.images[row])
            readable.append(row)
        except ValueError as error:
            errors.append(str(error))
    _report(errors, len(split.labels), skip, name)
    return split.choose(np.array(readable, dtype=np.int64)) if errors else split


def decode_images(
    split: Split, size: int, skip: bool, name: str, progress: bool = True
) -> PixelDataset:
    """All images of a split, decoded into memory: 3 * size * size bytes each.

    Raises:
        ValueError: one cannot be read (unless `skip`), or is not `size` by `size` pixels.
    """
    pixels = torch.empty(len(split.labels), 3, size, size, dtype=torch.uint8)
    errors: list[str] = []
    readable: list[int] = []
    for row in _bar(len(split.labels), f"decoding {name}", progress):
        image = split.images[row]
        try:
            decoded = decode(image)
        except ValueError as error:
            errors.append(str(error))
            continue
        if decoded.shape[1:] != (size, size):
            height, width = decoded.shape[1:]
            raise ValueError(
                f"{image.place} has {width} x {height} pixels, and all images must have {size} x "
                f"{size}; for others set dataset: generic"
            )
        pixels[len(readable)] = decoded
        readable.append(row)
    _report(errors, len(split.labels), skip, name)
    return PixelDataset(pixels[: len(readable)], torch.from_numpy(split.labels)[readable])


def _expected_classes(args: ImageArguments) -> int | None:
    usual = args.setting("label_column") == args.defaults.label_column
    return args.defaults.classes if usual else None


def _check_present(dataset: PixelDataset | StoredDataset, name: str, classes: list[str]) -> None:
    labels = dataset.labels if isinstance(dataset, PixelDataset) else dataset.split.labels
    if len(labels) == 0:
        raise ValueError(f"{name} has no image that can be read")
    lacking = set(range(len(classes))) - set(labels.tolist())
    if lacking and name == "train":
        raise ValueError(f"train: no image of {classes[min(lacking)]!r} can be read")


def _report(errors: list[str], count: int, skip: bool, name: str) -> None:
    if not errors:
        return
    shown = "\n  ".join(errors[:_NAMED])
    more = f"\n  and {len(errors) - _NAMED} more" if len(errors) > _NAMED else ""
    message = f"{name}: {len(errors)} of {count} images cannot be read:\n  {shown}{more}"
    if not skip:
        raise ValueError(
            f"{message}\nReplace or remove them, or set skip_unreadable: true to go on without them"
        )
    logger.warning(f"{message}\nThey are left out (skip_unreadable=True)")


def _bar(count: int, description: str, progress: bool) -> "range":
    from tqdm import tqdm

    bar: range = tqdm(range(count), desc=description, unit="images", disable=not progress)
    return bar
