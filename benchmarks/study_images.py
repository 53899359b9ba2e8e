"""Images of `time_to_accuracy.py`: classes of CIFAR-100, made smaller once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from study_data import SEEN, StudyData, long_tail, repeated, spaced
from torch import Tensor
from torch.nn import functional

from sift_trainer.data.images import ImageArguments, load_images
from sift_trainer.data.images.batches import EvaluationDataset, ImageCollator, PixelDataset


def images(
    data: Path,
    cache: Path,
    rows: int,
    validation_rows: int,
    classes: Sequence[int],
    label: str = "fine_label",
    tail: float = 1.0,
    even: bool = False,
    background: Sequence[int] = (),
    background_rows: int = 0,
) -> StudyData:
    """Some classes of CIFAR-100 at 16 x 16 pixels, the means of four each.

    Args:
        rows: images of a class to train on.
        validation_rows: of each class, from the test images.
        classes: their numbers.
        label: ``fine_label``, or ``coarse_label`` for the 20 groups of classes.
        tail: as in `passages`.
        even: likewise.
        background: numbers of classes that together are one more.
        background_rows: its images to train on, again and again if there are fewer.
    """
    arguments = ImageArguments(
        files=str(data / "cifar-100"), label_column=label, image_cache_dir=str(cache / "images")
    )
    usual = arguments.defaults
    file = cache / f"images_16_{label}.pt"
    if not file.is_file():
        whole = load_images(arguments, progress=False)
        torch.save([_halved(part) for part in (whole.train, whole.test.dataset)], file)
    train, test = (PixelDataset(*part) for part in torch.load(file))
    groups = [[each] for each in classes]
    counts = long_tail(len(groups), rows, tail)
    if background:
        groups.append(list(background))
        counts.append(background_rows)
    train = _some(train, groups, counts, even)
    validation = _some(test, groups, [validation_rows] * len(groups))
    collator = ImageCollator(16, usual.mean, usual.std, seed=0)
    some = torch.from_numpy(spaced(np.arange(len(train)), SEEN))
    trained = PixelDataset(train.pixels[some], train.labels[some])
    shown = [EvaluationDataset(part, 16, usual.mean, usual.std) for part in (validation, trained)]
    return StudyData(train, shown[0], shown[1], collator, len(groups))


def _halved(part: PixelDataset) -> tuple[Tensor, Tensor]:
    pixels = functional.avg_pool2d(part.pixels.float(), 2).round().to(torch.uint8)
    return pixels, part.labels


def _some(
    part: PixelDataset, groups: Sequence[list[int]], counts: Sequence[int], even: bool = False
) -> PixelDataset:
    """So many images of each group of classes, whose labels become 0, 1, 2..."""
    found = [np.flatnonzero(np.isin(part.labels.numpy(), group)) for group in groups]
    own = [np.resize(rows, count) for rows, count in zip(found, counts, strict=True)]
    own = repeated(own) if even else own
    labels = [np.full_like(rows, number) for number, rows in enumerate(own)]
    chosen = torch.from_numpy(np.concatenate(own))
    return PixelDataset(part.pixels[chosen], torch.from_numpy(np.concatenate(labels)))
