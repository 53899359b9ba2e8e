"""`train_sampling_strategy="group_by_length"` groups what is drawn."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer, TrainingArguments

from sift_trainer import SiftTrainer, SiftTrainingArguments
from tests.training import bert, quick

ROWS, KEPT = 150, 4


def rows() -> list[dict[str, list[int]]]:
    """Row i has 4 to 16 tokens, the first of which are its number."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(4, 17, (ROWS,), generator=draw).tolist()
    tokens = [[5 + row // 40, 50 + row % 40, *range(5, 5 + n - 2)] for row, n in enumerate(lengths)]
    return [{"input_ids": ids, "labels": ids} for ids in tokens]


def collate(batch: list[dict[str, list[int]]]) -> dict[str, Tensor]:
    fields = {"input_ids": 0, "labels": -100}
    return {
        name: pad_sequence([torch.tensor(row[name]) for row in batch], True, pad)
        for name, pad in fields.items()
    }


def drawn(kind: Any, args: TrainingArguments) -> list[list[list[int]]]:
    """The numbers' tokens and the length of each row, batch by batch of one epoch."""
    batches: list[list[list[int]]] = []

    class Noting(kind):  # type: ignore[misc]
        def get_batch_samples(self, *arguments: Any, **kwargs: Any) -> Any:
            found, count = super().get_batch_samples(*arguments, **kwargs)
            for batch in found:
                lengths = (batch["input_ids"] != 0).sum(dim=1).tolist()
                numbers = batch["input_ids"][:, :2].tolist()
                batches.append([[*n, length] for n, length in zip(numbers, lengths, strict=True)])
            return found, count

    Noting(bert(), args, train_dataset=rows(), data_collator=collate).train()
    return batches


@pytest.mark.parametrize(("ratio", "accumulation"), [(0.5, 1), (0.25, 3)])
def test_candidates_are_the_groups_of_a_trainer_of_such_batches(
    ratio: float, accumulation: int, tmp_path: Path
) -> None:
    settings = {
        "max_steps": -1,
        "num_train_epochs": 1,
        "gradient_accumulation_steps": accumulation,
        "train_sampling_strategy": "group_by_length",
    }
    sifted = SiftTrainingArguments(**quick(tmp_path, **settings), sift_keep_ratio=ratio)
    size = round(KEPT / ratio)
    plain = TrainingArguments(**quick(tmp_path, **settings, per_device_train_batch_size=size))
    found = drawn(SiftTrainer, sifted)
    assert [len(batch) for batch in found[:-1]] == [size] * (ROWS // size)
    assert found == drawn(Trainer, plain)
