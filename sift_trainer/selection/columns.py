"""Columns of the training data that the selection reads; neither model nor collator sees them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from sift_trainer.scoring.last_loss import ROW


class NumberedRows(Dataset[Any]):
    """Data with the column `ROW`. A ValueError for a stream, whose samples have no numbers."""

    def __init__(self, data: Any) -> None:
        if isinstance(data, IterableDataset):
            raise ValueError(
                "sift_criterion='last_loss' must recognise samples, but the training data is a "
                "stream; give a data set with a length, or use sift_criterion='predicted_loss'"
            )
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> Any:
        return self._numbered(row, self.data[row])

    def __getitems__(self, rows: list[int]) -> list[Any]:
        fetch = getattr(self.data, "__getitems__", None)
        samples = fetch(rows) if fetch else [self.data[row] for row in rows]
        return [self._numbered(row, sample) for row, sample in zip(rows, samples, strict=True)]

    def _numbered(self, row: int, sample: Any) -> dict[str, Any]:
        if not isinstance(sample, Mapping):
            raise ValueError(
                f"the training data holds {type(sample).__name__} objects, but "
                "sift_criterion='last_loss' adds a column; return a dictionary for each sample"
            )
        return {**sample, ROW: row}


class ColumnCollator:
    """A collator that takes ``columns`` with one number per sample from the samples and adds them
    to the batch of ``collator``: (B,) each. A ValueError if a sample lacks one."""

    def __init__(self, collator: Callable[[list[Any]], Any], columns: tuple[str, ...]) -> None:
        self.collator, self.columns = collator, columns

    def __call__(self, samples: list[Any]) -> Any:
        found: dict[str, list[Any]] = {name: [] for name in self.columns}
        others = []
        for sample in samples:
            names = sorted(sample) if isinstance(sample, Mapping) else type(sample).__name__
            missing = [name for name in self.columns if name not in names]
            if missing or not isinstance(sample, Mapping):
                raise ValueError(
                    f"the training data has no column {[*missing, *self.columns][0]!r}, which the "
                    f"selection reads; a sample has {names}; add it, or change sift_criterion or "
                    "sift_reference_column"
                )
            others.append({name: sample[name] for name in sample if name not in found})
            for name, values in found.items():
                values.append(sample[name])
        batch = self.collator(others)
        for name, values in found.items():
            batch[name] = _numbers(name, values)
        return batch


def _numbers(name: str, values: list[Any]) -> Tensor:
    """The values of a column: (B,)."""
    for value in values:
        try:
            finite = math.isfinite(value)
        except (TypeError, ValueError, RuntimeError):
            finite = False
        if not finite:
            raise ValueError(
                f"column {name!r} of the training data holds {value!r}, but the selection needs "
                "one finite number per sample, such as 0.5"
            )
    return torch.tensor([value.item() if hasattr(value, "item") else value for value in values])


def numbered(data: Any) -> Any:
    """The data with the column `ROW`."""
    if isinstance(data, datasets.Dataset) and data.format["type"] != "custom":
        return data.add_column(ROW, list(range(len(data))))
    return NumberedRows(data)
