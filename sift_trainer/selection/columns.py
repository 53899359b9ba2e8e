"""Columns of the training data that the selection reads; neither model nor collator sees them."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
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
            missing = [name for name in self.columns if name not in sample]
            if missing:
                raise ValueError(
                    f"the training data has no column {missing[0]!r}, which the selection reads; "
                    f"its columns are {sorted(sample)}; add it, or change sift_criterion or "
                    "sift_reference_column"
                )
            others.append({name: sample[name] for name in sample if name not in found})
            for name, values in found.items():
                values.append(sample[name])
        batch = self.collator(others)
        for name, values in found.items():
            batch[name] = torch.as_tensor(values)
        return batch
