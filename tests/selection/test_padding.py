"""Padding on the right that no sample needs is cut off; nothing else is."""

from typing import Any

import torch

from sift_trainer.selection.padding import by_length, without_padding


def batch(lengths: list[int], width: int, **fields: Any) -> dict[str, Any]:
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": mask * 7, "attention_mask": mask, **fields}


def test_columns_that_are_padding_in_all_samples_go() -> None:
    labels = torch.arange(3)
    found = without_padding(batch([3, 5, 2], 11, labels=labels, weight=torch.ones(3)))
    assert found["input_ids"].shape == found["attention_mask"].shape == (3, 5)
    assert found["labels"] is labels
    assert (found["input_ids"].sum(1) == torch.tensor([21, 35, 14])).all()


def test_a_label_beyond_the_mask_is_kept() -> None:
    labels = torch.full((2, 11), -100)
    labels[1, 8] = 4
    assert without_padding(batch([3, 5], 11, labels=labels))["labels"].shape == (2, 9)


def test_padding_on_the_left_and_multiples_stay() -> None:
    left = {name: value.flip(1) for name, value in batch([3, 5], 11).items()}
    assert without_padding(left)["input_ids"].shape == (2, 11)
    assert without_padding(batch([3, 5], 24))["input_ids"].shape == (2, 8)
    assert without_padding(batch([3, 65], 192))["input_ids"].shape == (2, 128)


def test_batches_with_other_fields_of_several_dimensions_stay() -> None:
    image = torch.zeros(2, 11)
    assert without_padding(batch([3, 5], 11, pixel_values=image))["input_ids"].shape == (2, 11)
    assert without_padding({"pixel_values": image}) == {"pixel_values": image}
    assert by_length(batch([3, 5] * 8, 11, pixel_values=image), 2) is None


def test_groups_are_of_similar_length() -> None:
    groups = by_length(batch([9, 1, 8, 2, 7, 3, 6, 4], 9), 2)
    assert groups is not None
    assert [group.tolist() for group in groups] == [[1, 3, 5, 7], [6, 4, 2, 0]]
    assert by_length(batch([9, 1, 8], 9), 2) is None
