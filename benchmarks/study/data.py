"""The data of `time_to_accuracy.py`: what the regimes share, and images.

What a regime trains and validates on is fixed. Subsets, splits, masks and wrong labels do not
depend on a run's seed, which is of weights and order alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from sift_trainer.reproduction.images import ImageArguments, load_images
from sift_trainer.reproduction.images.batches import EvaluationDataset, ImageCollator, PixelDataset

SEEN = 500  # training rows whose loss is measured, at most


@dataclass(frozen=True)
class StudyData:
    """What all runs of a regime share.

    Attributes:
        train: rows to train on.
        validation: rows whose accuracy counts.
        trained: some of the training rows as validation rows are, to see how far they are fitted.
        collator: for all three.
        classes: of a classification; otherwise the size of the vocabulary.
        pretrained: file with the weights of a base model that runs start with; None: fresh weights.
    """

    train: Dataset[Any]
    validation: Dataset[Any]
    trained: Dataset[Any]
    collator: Callable[[list[Any]], dict[str, Any]]
    classes: int
    pretrained: Path | None = None


class Rows(Dataset[dict[str, Tensor]]):
    """Rows of word pieces (n, length) with labels of the shape (n,) or (n, length)."""

    def __init__(self, input_ids: Tensor, labels: Tensor) -> None:
        self.input_ids, self.labels = input_ids, labels

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"input_ids": self.input_ids[row], "labels": self.labels[row]}


def long_tail(classes: int, most: int, tail: float) -> list[int]:
    """How many rows each class has: ``most`` of the first, ``tail`` times as many of the last, by
    one ratio from class to class (Cui et al., 2019, section 5.1)."""
    last = max(classes - 1, 1)
    return [max(1, round(most * tail ** (number / last))) for number in range(classes)]


def flipped(labels: Tensor, classes: int, share: float) -> Tensor:
    """Labels of which a share is replaced by another class, always the same rows."""
    draw = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(labels), generator=draw) < share
    others = labels + torch.randint(1, classes, (len(labels),), generator=draw)
    return torch.where(wrong, others % classes, labels)


def spaced(rows: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` of the rows, evenly spaced."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(int)]


def with_copies(rows: np.ndarray, distinct: int, share: float) -> np.ndarray:
    """Rows of which the last ``distinct`` repeat until they are ``share`` of all."""
    once, often = rows[:-distinct], rows[-distinct:]
    return np.concatenate([once, np.resize(often, round(len(once) * share / (1 - share)))])


def repeated(classes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The rows of each class, repeated until it has as many as the largest one."""
    most = max(len(rows) for rows in classes)
    return [rows[np.resize(np.arange(len(rows)), most)] for rows in classes]


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
    """Some classes of CIFAR-100 at 16 x 16 pixels, each the mean of four.

    Args:
        rows: images of a class to train on.
        validation_rows: of each class, from the test images.
        classes: their numbers.
        tail: the rarest class's share of the most frequent one's rows.
        background: numbers of classes that together are one more class.
        background_rows: its images to train on, repeated if there are fewer.
        even: repeat the rows of rarer classes until all have as many.
        augmented: crop and flip images, each time differently.
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
    train = _chosen(train, groups, counts)
    own = [np.flatnonzero(train.labels.numpy() == label) for label in range(len(groups))]
    train = _rows(train, np.concatenate(repeated(own) if even else own))
    validation = _chosen(test, groups, [validation_rows] * len(groups))
    trained = _rows(train, spaced(np.arange(len(train)), SEEN))
    normal = 16, usual.mean, usual.std
    return StudyData(
        train if augmented else EvaluationDataset(train, *normal),
        EvaluationDataset(validation, *normal),
        EvaluationDataset(trained, *normal),
        ImageCollator(*normal, seed=0),
        len(groups),
    )


def _halved(part: PixelDataset) -> tuple[Tensor, Tensor]:
    pixels = functional.avg_pool2d(part.pixels.float(), 2).round().to(torch.uint8)
    return pixels, part.labels


def _rows(part: PixelDataset, chosen: np.ndarray) -> PixelDataset:
    return PixelDataset(part.pixels[chosen], part.labels[chosen])


def _chosen(part: PixelDataset, groups: Sequence[list[int]], counts: Sequence[int]) -> PixelDataset:
    """The first images of each group of classes, repeated if there are fewer than its count. Their
    labels become 0, 1, 2..."""
    labels = part.labels.numpy()
    own = [
        np.resize(np.flatnonzero(np.isin(labels, group)), count)
        for group, count in zip(groups, counts, strict=True)
    ]
    numbers = np.repeat(np.arange(len(groups)), counts)
    return PixelDataset(part.pixels[np.concatenate(own)], torch.from_numpy(numbers))
