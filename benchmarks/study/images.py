"""Images of `time_to_accuracy.py`: classes of CIFAR-100, made smaller once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sift_trainer.reproduction.images import ImageArguments, load_images
from sift_trainer.reproduction.images.batches import EvaluationDataset, ImageCollator, PixelDataset
from study.data import SEEN, StudyData, long_tail, repeated, spaced


def images(
    data: Path,
    cache: Path,
    rows: int,
    validation_rows: int,
    classes: Sequence[int],
    tail: float = 1.0,
    background: Sequence[int] = (),
    background_rows: int = 0,
    even: bool = False,
    augmented: bool = True,
) -> StudyData:
    """Some classes of CIFAR-100 at 16 x 16 pixels, the means of four each.

    Args:
        rows: images of a class to train on.
        validation_rows: of each class, from the test images.
        classes: their numbers.
        tail: as in `passages`.
        background: numbers of classes that together are one more.
        background_rows: its images to train on, again and again if there are fewer.
        even: repeat the rows of rarer classes until all have as many.
        augmented: whether images are cropped and flipped anew each time.
    """
    arguments = ImageArguments(
        files=str(data / "cifar-100"),
        label_column="fine_label",
        image_cache_dir=str(cache / "images"),
    )
    usual = arguments.defaults
    file = cache / "images_16_fine_label.pt"
    if not file.is_file():
        whole = load_images(arguments, progress=False)
        torch.save([_halved(part) for part in (whole.train, whole.test.dataset)], file)
    train, test = (PixelDataset(*part) for part in torch.load(file))
    counts = long_tail(len(classes), rows, tail)
    groups = [[each] for each in classes]
    if background:
        groups.append(list(background))
        counts.append(background_rows)
    train = _some(train, groups, counts)
    own = [np.flatnonzero(train.labels.numpy() == label) for label in range(len(groups))]
    chosen = np.concatenate(repeated(own) if even else own)
    train = PixelDataset(train.pixels[chosen], train.labels[chosen])
    validation = _some(test, groups, [validation_rows] * len(groups))
    collator = ImageCollator(16, usual.mean, usual.std, seed=0)
    some = torch.from_numpy(spaced(np.arange(len(train)), SEEN))
    trained = PixelDataset(train.pixels[some], train.labels[some])
    shown = [EvaluationDataset(part, 16, usual.mean, usual.std) for part in (validation, trained)]
    if not augmented:
        train = EvaluationDataset(train, 16, usual.mean, usual.std)
    return StudyData(train, shown[0], shown[1], collator, len(groups))


def _halved(part: PixelDataset) -> tuple[Tensor, Tensor]:
    pixels = functional.avg_pool2d(part.pixels.float(), 2).round().to(torch.uint8)
    return pixels, part.labels


def _some(part: PixelDataset, groups: Sequence[list[int]], counts: Sequence[int]) -> PixelDataset:
    """The first images of each group of classes, again and again where there are fewer; their
    labels become 0, 1, 2..."""
    labels = part.labels.numpy()
    own = [
        np.resize(np.flatnonzero(np.isin(labels, group)), count)
        for group, count in zip(groups, counts, strict=True)
    ]
    numbers = [np.full_like(rows, number) for number, rows in enumerate(own)]
    chosen = torch.from_numpy(np.concatenate(own))
    return PixelDataset(part.pixels[chosen], torch.from_numpy(np.concatenate(numbers)))
