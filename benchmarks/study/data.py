"""What data of `time_to_accuracy.py` is made with, for `text.py` and `images.py`.

What a regime trains and validates on is fixed: subsets, splits, masks and wrong labels do not
depend on a run's seed, which is of weights and order alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

SEEN = 500  # training rows whose loss is looked at, at most


@dataclass(frozen=True)
class StudyData:
    """What every run of a regime shares.

    Attributes:
        train: rows to train on.
        validation: rows whose accuracy counts.
        trained: some of the training rows as validation rows are, to see how far they are fitted.
        collator: for all three.
        classes: of a classification; otherwise the size of the vocabulary.
        pretrained: file with the weights of a base model that runs begin with; None for fresh ones.
    """

    train: Dataset[Any]
    validation: Dataset[Any]
    trained: Dataset[Any]
    collator: Callable[[list[Any]], dict[str, Any]]
    classes: int
    pretrained: Path | None = None


class Rows(Dataset[dict[str, Tensor]]):
    """Rows of word pieces (n, length) with their labels, (n,) or as long as they are."""

    def __init__(self, input_ids: Tensor, labels: Tensor) -> None:
        self.input_ids, self.labels = input_ids, labels

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"input_ids": self.input_ids[row], "labels": self.labels[row]}


def long_tail(classes: int, most: int, tail: float) -> list[int]:
    """How many rows each class has: ``most`` of the first, ``tail`` times as many of the last, by
    one ratio from class to class (Cui et al., 2019, section 5.1)."""
    if not 0 < tail <= 1:
        raise ValueError(f"tail={tail} must be in (0, 1], such as 0.05; 1 is as many of each")
    last = max(classes - 1, 1)
    return [max(1, round(most * tail ** (number / last))) for number in range(classes)]


def flipped(labels: Tensor, classes: int, share: float) -> Tensor:
    """Labels of which a share is exchanged for another class, always the same rows."""
    if not 0 <= share < 1:
        raise ValueError(f"flips={share} must be in [0, 1), such as 0.2")
    draw = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(labels), generator=draw) < share
    others = labels + torch.randint(1, classes, (len(labels),), generator=draw)
    return torch.where(wrong, others % classes, labels)


def spaced(rows: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` of the rows, from all over them."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(int)]


def with_copies(rows: np.ndarray, distinct: int, share: float) -> np.ndarray:
    """Rows of which the last ``distinct`` come again and again, until they are ``share`` of all."""
    if not 0 <= share < 1 or not 0 < distinct < len(rows):
        raise ValueError(
            f"copies={share} of distinct={distinct} must be a share in [0, 1), such as 0.75, of "
            f"fewer than all {len(rows)} rows"
        )
    once, often = rows[:-distinct], rows[-distinct:]
    return np.concatenate([once, np.resize(often, round(len(once) * share / (1 - share)))])


def repeated(classes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The rows of each class again and again, until it has as many as the largest one."""
    most = max(len(rows) for rows in classes)
    return [rows[np.resize(np.arange(len(rows)), most)] for rows in classes]
