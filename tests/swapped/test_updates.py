"""The updates and rows in the table of docs/swap.md are those of the trainers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from sift_trainer import SiftTrainer
from tests.training import bert, quick

PAGE = Path(__file__).parents[2] / "docs" / "swap.md"
ROWS, BATCH = 3668, 32


class Empty(Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return ROWS


def figures(start: str) -> list[int]:
    (line,) = [line for line in PAGE.read_text().splitlines() if line.startswith(start)]
    return [int(cell.replace(",", "")) for cell in line.split("|")[2:-1]]


@pytest.mark.parametrize(
    ("kind", "line", "length"),
    [
        (Trainer, "| `Trainer` |", {"num_train_epochs": 3}),
        (SiftTrainer, "| `SiftTrainer`, nothing else", {"num_train_epochs": 3}),
        (SiftTrainer, "| `SiftTrainer`, `--num_train_epochs 6`", {"num_train_epochs": 6}),
        (SiftTrainer, "| `SiftTrainer`, `--max_steps 345`", {"max_steps": 345}),
    ],
    ids=str,
)
def test_the_table(kind: Any, line: str, length: dict[str, int], tmp_path: Path) -> None:
    settings = {**quick(tmp_path, per_device_train_batch_size=BATCH, max_steps=-1), **length}
    args = TrainingArguments(**settings)
    trainer = kind(bert(), args, train_dataset=Empty())
    loader = trainer.get_train_dataloader()
    per_epoch, updates = trainer.set_initial_training_values(args, loader)[-2:]
    drawn = [len(rows) for rows in loader.batch_sampler] * 6
    kept = [rows if kind is Trainer else rows // 2 for rows in drawn]
    assert figures(line) == [per_epoch, updates, sum(drawn[:updates]), sum(kept[:updates])]
