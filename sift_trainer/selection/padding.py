"""Padding that no sample of a batch needs: columns on the right in which all samples are padded."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sift_trainer.scoring.positions import IGNORE_INDEX

_FIELDS = {"input_ids", "attention_mask", "token_type_ids", "position_ids", "labels"}
_PLACES = {"start_positions", "end_positions"}  # whose losses are over all places of the input
_MULTIPLES = (64, 8)  # widths that collators pad to; a multiple stays one


def ends_of(batch: Mapping[str, Any]) -> Tensor | None:
    """Where each sample of a batch of tokens ends: (B,). None for a batch whose loss may depend on
    its width: answers in a text, or other fields of two or more dimensions."""
    mask = batch.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 2 or _PLACES & set(batch):
        return None
    for name, value in batch.items():
        if isinstance(value, Tensor) and value.dim() > 1 and name not in _FIELDS:
            return None
    used = mask != 0
    labels = batch.get("labels")
    if isinstance(labels, Tensor) and labels.shape == mask.shape:
        used = used | (labels != IGNORE_INDEX)
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return (used * places).amax(dim=1)


def without_padding(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch without columns on the right that are padding in all of its samples. A width that
    is a multiple of 64 or 8 stays one. Waits for the device."""
    ends = ends_of(batch)
    if ends is None or not len(ends):
        return dict(batch)
    shape = batch["attention_mask"].shape
    multiple = next((each for each in _MULTIPLES if shape[1] % each == 0), 1)
    width = max(multiple, -(-int(ends.max()) // multiple) * multiple)
    if width >= shape[1]:
        return dict(batch)
    return {
        name: value[:, :width].contiguous()
        if isinstance(value, Tensor) and value.shape == shape and not value.is_floating_point()
        else value
        for name, value in batch.items()
    }


def with_padding(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch of tokens with half as much padding again on the right, for comparisons."""
    shape = batch["attention_mask"].shape
    more = max(1, shape[1] // 2)
    return {
        name: functional.pad(value, (0, more), value=IGNORE_INDEX if name == "labels" else 0)
        if isinstance(value, Tensor) and value.shape == shape and not value.is_floating_point()
        else value
        for name, value in batch.items()
    }


def by_length(batch: Mapping[str, Any], parts: int) -> list[Tensor] | None:
    """Indices of the samples in ``parts`` groups of similar length, the shortest first; None for a
    batch that `ends_of` does not understand, or that is too small."""
    ends = ends_of(batch)
    if ends is None or len(ends) < 4 * parts:
        return None
    return list(ends.argsort(stable=True).tensor_split(parts))
