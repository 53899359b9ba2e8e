"""Rows of a batch: counted, taken, or refused by the name of the field."""

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BatchEncoding
from transformers.data.data_collator import DataCollatorWithFlattening

from sift_trainer.selection.rows import has_rows, num_rows, take_rows


def batch(**fields: Any) -> dict[str, Any]:
    return {
        "input_ids": torch.arange(12).view(4, 3),
        "labels": torch.tensor([10, 11, 12, 13]),
        **fields,
    }


def test_rows_are_taken_of_every_field_and_the_batch_stays() -> None:
    whole = batch(words=["a", "b", "c", "d"], ids=(5, 6, 7, 8))
    assert has_rows(whole)
    taken = take_rows(whole, torch.tensor([1, 3]))
    assert taken["input_ids"].tolist() == [[3, 4, 5], [9, 10, 11]]
    assert taken["labels"].tolist() == [11, 13]
    assert taken["words"] == ["b", "d"]
    assert taken["ids"] == (6, 8)
    taken["input_ids"].zero_()
    assert (num_rows(taken), num_rows(whole)) == (2, 4)
    assert torch.equal(whole["input_ids"], batch()["input_ids"])
    assert take_rows(whole, torch.tensor([2, 0, 2]))["labels"].tolist() == [12, 10, 12]


@pytest.mark.parametrize("dtype", [np.int64, object])
def test_rows_of_arrays_are_taken(dtype: Any) -> None:
    fields = batch(deep=np.arange(8).reshape(4, 2).astype(dtype))
    assert num_rows(fields) == 4
    taken = take_rows(fields, torch.tensor([3, 1]))
    assert taken["deep"].tolist() == [[6, 7], [2, 3]]
    assert taken["deep"].dtype == dtype


@pytest.mark.parametrize("shared", [None, 3, "text", torch.tensor(7), np.array(1.5)])
def test_what_all_rows_share_is_passed_on(shared: Any) -> None:
    fields = batch(shared=shared)
    assert num_rows(fields) == 4
    assert take_rows(fields, torch.tensor([0]))["shared"] is shared


@pytest.mark.parametrize("kind", [OrderedDict, BatchEncoding])
def test_any_mapping_is_a_batch(kind: Any) -> None:
    fields = kind(batch())
    assert num_rows(fields) == 4
    fields.update(take_rows(fields, torch.tensor([2])))  # as a training step narrows its batch
    assert fields["input_ids"].tolist() == [[6, 7, 8]]


def packed() -> dict[str, Any]:
    """Three sentences in one row, and where each begins."""
    collate = DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    return dict(collate([{"input_ids": [1] * n, "labels": [1] * n} for n in (3, 4, 5)]))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (batch(boxes=[torch.zeros(2), torch.zeros(3), torch.zeros(1), torch.zeros(4)]), "'boxes'"),
        (batch(boxes=[{"box": 1}] * 4), "'boxes' is a nested list"),
        (batch(boxes={"ids": torch.zeros(4, 2)}), "'boxes' is a nested dict"),
        (batch(short=np.arange(3)), "short: 3"),
        (batch(position_ids=torch.arange(3)[None]), "input_ids: 4, labels: 4, position_ids: 1"),
        (packed(), "cu_seq_lens_q: 4.*no packing"),
        ({}, "no tensor"),
        ({"temperature": 1.0, "count": torch.tensor(3)}, "no tensor"),
    ],
)
def test_a_batch_whose_rows_are_not_samples_is_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        num_rows(fields)
    assert not has_rows(fields)
