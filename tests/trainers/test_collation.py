"""What a collator makes of two samples, and what a model's forward asks for."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn

from sift_trainer.checks.batches import rows_of_a_sample, tried_batch
from sift_trainer.sifted_model.fields import missing_field, with_known_fields
from tests.training import Rows, Stream


def drawing(samples: list[Any]) -> list[Any]:
    """A collator that draws random numbers of every kind."""
    random.random()
    np.random.rand()
    torch.rand(1)
    return samples


def states() -> list[Any]:
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]


def test_two_samples_are_collated_and_no_random_number_is_gone() -> None:
    data = Rows(48)
    before = states()
    batch = tried_batch(data, drawing)
    assert states() == before
    assert [sample["input_ids"].tolist() for sample in batch] == data.tokens[:2].tolist()


def test_nor_after_a_failure() -> None:
    def failing(samples: list[Any]) -> Any:
        drawing(samples)
        raise KeyError("text")

    before = states()
    assert tried_batch(Rows(48), failing) is None
    assert states() == before


@pytest.mark.parametrize("data", [None, Stream(48), Rows(1)[:1], {}, iter([1, 2])])
def test_what_cannot_be_tried(data: Any) -> None:
    assert tried_batch(data, drawing) is None


def test_data_under_names() -> None:
    named = {"a": Dataset.from_dict({"x": [1, 2, 3]}), "b": Dataset.from_dict({"x": [4, 5]})}
    assert tried_batch(named, drawing) == [{"x": 1}, {"x": 2}]


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [
        ({"input_ids": 2, "labels": 2}, 1),
        ({"input_ids": 4, "attention_mask": 4}, 2),  # chosen above rejected
        ({"input_ids": 4, "margin": 2}, 2),
        ({"input_ids": 1, "cu_seq_lens_q": 3}, 1),  # flattened
        ({"input_ids": 6}, 3),
        ({}, 1),
    ],
)
def test_rows_of_a_sample(sizes: dict[str, int], rows: int) -> None:
    batch = {name: torch.zeros(size, 5) for name, size in sizes.items()}
    assert rows_of_a_sample({**batch, "scale": torch.tensor(8.0), "names": ["a"] * 8}, 2) == rows


class Strict(nn.Module):
    def forward(self, pixels: Tensor, mask: Tensor | None = None) -> Any:
        return {"pixels": pixels, "mask": mask}


class Lenient(nn.Module):
    def forward(self, features: Any, *others: Any, **fields: Any) -> Any:
        return fields


def test_fields_that_a_forward_cannot_do_without() -> None:
    assert missing_field(Strict(), {"mask": 1}) == "pixels"
    assert missing_field(Strict(), {"pixels": 1, "labels": 2}) is None
    assert missing_field(Lenient(), {"text_input_ids": 1}) == "features"


def test_fields_that_a_forward_does_not_know_are_for_another_loss() -> None:
    strict, lenient = Strict(), Lenient()
    assert with_known_fields(strict, strict)(pixels=1, labels=2) == {"pixels": 1, "mask": None}
    assert with_known_fields(lenient, lenient)(features=1, labels=2) == {"labels": 2}
