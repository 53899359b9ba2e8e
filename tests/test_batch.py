"""Rows of a batch: counted, taken, or refused by the name of the field."""

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BatchEncoding, DefaultDataCollator
from transformers.data.data_collator import DataCollatorWithFlattening

from sift_trainer.selection.rows import has_rows, num_rows, take_rows


def batch(**fields: Any) -> dict[str, Any]:
    return {
        "input_ids": torch.arange(12).view(4, 3),
        "labels": torch.tensor([10, 11, 12, 13]),
        **fields,
    }


def test_rows_are_the_first_dimension() -> None:
    assert num_rows(batch()) == 4
    assert num_rows(batch(pixel_values=torch.zeros(4, 3, 8, 8))) == 4
    assert num_rows({"labels": torch.zeros(0)}) == 0
    assert has_rows(batch())


def test_taken_rows_are_those_rows_of_every_field() -> None:
    rows = torch.tensor([1, 3])
    taken = take_rows(batch(words=["a", "b", "c", "d"], ids=(5, 6, 7, 8)), rows)
    assert taken["input_ids"].tolist() == [[3, 4, 5], [9, 10, 11]]
    assert taken["labels"].tolist() == [11, 13]
    assert taken["words"] == ["b", "d"]
    assert taken["ids"] == (6, 8)
    assert num_rows(taken) == 2
    repeated = take_rows(batch(), torch.tensor([2, 0, 2]))
    assert repeated["labels"].tolist() == [12, 10, 12]


@pytest.mark.parametrize("dtype", [np.int64, np.float16, object])
def test_rows_of_arrays_are_taken(dtype: Any) -> None:
    fields = batch(flat=np.arange(4).astype(dtype), deep=np.arange(8).reshape(4, 2).astype(dtype))
    assert num_rows(fields) == 4
    taken = take_rows(fields, torch.tensor([3, 1]))
    assert taken["flat"].tolist() == [3, 1]
    assert taken["deep"].tolist() == [[6, 7], [2, 3]]
    assert taken["deep"].dtype == dtype
    none = take_rows(fields, torch.tensor([], dtype=torch.long))
    assert none["deep"].shape == (0, 2)
    with pytest.raises(ValueError, match=r"disagree .*short: 3"):
        num_rows(batch(short=np.arange(3)))


def test_the_batch_itself_is_left_alone() -> None:
    whole = batch()
    take_rows(whole, torch.tensor([0]))["input_ids"].zero_()
    assert whole["input_ids"].tolist() == torch.arange(12).view(4, 3).tolist()
    assert num_rows(whole) == 4


@pytest.mark.parametrize(
    "shared",
    [None, True, 3, 0.5, "text", torch.tensor(7), torch.tensor(1.5), np.int64(3), np.array(1.5)],
)
def test_what_all_rows_share_is_passed_on(shared: Any) -> None:
    fields = batch(shared=shared)
    assert num_rows(fields) == 4
    assert take_rows(fields, torch.tensor([0]))["shared"] is shared


def test_any_mapping_is_a_batch() -> None:
    for kind in (OrderedDict, BatchEncoding):
        fields = kind(batch())
        assert num_rows(fields) == 4
        assert take_rows(fields, torch.tensor([2]))["labels"].tolist() == [12]
    fields = BatchEncoding(batch())
    fields.update(take_rows(fields, torch.tensor([2])))  # as a training step narrows its batch
    assert fields["input_ids"].tolist() == [[6, 7, 8]]


@pytest.mark.parametrize(
    "nested",
    [
        [torch.zeros(2), torch.zeros(3), torch.zeros(1), torch.zeros(4)],
        [{"boxes": 1}] * 4,
        [[1, 2], [3], [], [4]],
        {"ids": torch.zeros(4, 2)},
        object(),
    ],
)
def test_a_nested_field_is_refused_by_name(nested: Any) -> None:
    with pytest.raises(ValueError, match=f"'boxes' is a nested {type(nested).__name__}, whose row"):
        num_rows(batch(boxes=nested))
    assert not has_rows(batch(boxes=nested))


def test_fields_that_disagree_are_refused_with_their_sizes() -> None:
    message = r"disagree \(input_ids: 4, labels: 4, position_ids: 1\), as in packed"
    with pytest.raises(ValueError, match=message):
        num_rows(batch(position_ids=torch.arange(3)[None]))


def test_a_packed_batch_is_refused() -> None:
    """Three sentences in one row, and where each begins."""
    collate = DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    packed = collate([{"input_ids": list(range(n)), "labels": list(range(n))} for n in (3, 4, 5)])
    assert packed["input_ids"].shape == (1, 12)
    assert packed["cu_seq_lens_q"].tolist() == [0, 3, 7, 12]
    with pytest.raises(ValueError, match=r"cu_seq_lens_q: 4.*one sample per row \(no packing\)"):
        num_rows(packed)


@pytest.mark.parametrize("fields", [{}, {"temperature": 1.0, "count": torch.tensor(3)}])
def test_a_batch_without_rows_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has no tensor with the samples in its first dimension"):
        num_rows(fields)
    assert not has_rows(fields)


def test_what_the_default_collator_makes_has_rows() -> None:
    made = DefaultDataCollator()([{"input_ids": [1, 2], "label": i} for i in range(3)])
    assert num_rows(made) == 3
    assert take_rows(made, torch.tensor([2]))["labels"].tolist() == [2]
