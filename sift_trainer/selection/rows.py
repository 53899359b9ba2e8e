"""Samples of a batch: how many there are, and taking some."""

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

import numpy as np
from torch import Tensor

Batch = MutableMapping[str, Any]


def _rows_of(name: str, value: Any) -> int | None:
    """Number of rows of one field; None for a field that all rows share."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value.shape[0] if value.ndim else None
    if isinstance(value, (bool, int, float, str, np.generic, type(None))):
        return None
    if isinstance(value, (list, tuple)) and not any(
        isinstance(item, (Tensor, Mapping, list, tuple)) for item in value
    ):
        return len(value)
    raise ValueError(
        f"batch field {name!r} is a nested {type(value).__name__}, whose rows cannot be selected; "
        "give tensors or arrays with the samples in the first dimension, or drop the field"
    )


def num_rows(batch: Mapping[str, Any]) -> int:
    """Number of samples in a batch: the first dimension of all its fields. A ValueError for a
    nested field, for different first dimensions, and without any."""
    rows = {name: _rows_of(name, value) for name, value in batch.items()}
    sizes = {name: count for name, count in rows.items() if count is not None}
    if not sizes:
        raise ValueError(
            f"a batch with fields {sorted(batch)} has no tensor with the samples in its first "
            "dimension; sifting needs at least one, such as input_ids of shape (batch, length)"
        )
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in sizes.items())
        raise ValueError(
            f"the first dimensions of the batch fields disagree ({listed}), as in packed or "
            "flattened batches; sifting selects rows, so give one sample per row (no packing)"
        )
    return next(iter(sizes.values()))


def has_rows(batch: Mapping[str, Any]) -> bool:
    """Whether `num_rows` finds samples to select."""
    try:
        num_rows(batch)
    except ValueError:
        return False
    return True


def first_length(batch: Any) -> int:
    """Number of samples of a batch of any kind; 0 where nothing tells it."""
    values = batch.values() if isinstance(batch, Mapping) else batch
    fields = values if isinstance(values, Iterable) else ()
    tensors = (len(value) for value in fields if isinstance(value, Tensor) and value.dim())
    return next(tensors, len(batch) if isinstance(batch, list) else 0)


def take_rows(batch: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    """The given rows of a batch: ``rows`` (k,) indices; fields without rows stay as they are."""
    return {name: _take(value, rows) for name, value in batch.items()}


def _take(value: Any, rows: Tensor) -> Any:
    if isinstance(value, Tensor) and value.dim():
        return value[rows.to(value.device)]  # index_select would lose a channels-last layout
    if isinstance(value, np.ndarray) and value.ndim:
        return value[rows.tolist()]
    if isinstance(value, (list, tuple)):
        return type(value)(value[row] for row in rows.tolist())
    return value
