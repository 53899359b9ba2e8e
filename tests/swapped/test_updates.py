"""The updates and rows in the table of docs/swap.md are those of the trainers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset
from transformers import Trainer

from sift_trainer import SiftTrainer, SiftTrainingArguments
from tests.training import bert, quick

PAGE = Path(__file__).parents[2] / "docs" / "swap.md"
ROWS, BATCH, EPOCHS = 3668, 32, 3


class Empty(Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return ROWS


def figures(start: str) -> list[int]:
    (line,) = [line for line in PAGE.read_text().splitlines() if line.startswith(start)]
    return [int(cell.replace(",", "")) for cell in line.split("|")[2:-1]]


@pytest.mark.parametrize(
    ("kind", "line", "ratio"),
    [
        (Trainer, "| `Trainer` |", 1.0),
        (SiftTrainer, "| `SiftTrainer`, nothing else", None),
        (SiftTrainer, "| `SiftTrainer`, `--sift_keep_ratio 0.25`", 0.25),
    ],
    ids=str,
)
def test_the_table(kind: Any, line: str, ratio: float | None, tmp_path: Path) -> None:
    changes = {} if ratio is None else {"sift_keep_ratio": ratio}
    settings = quick(tmp_path, per_device_train_batch_size=BATCH, max_steps=-1, **changes)
    args = SiftTrainingArguments(**settings, num_train_epochs=EPOCHS)
    trainer = kind(bert(), args, train_dataset=Empty())
    loader = trainer.get_train_dataloader()
    per_epoch, updates = trainer.set_initial_training_values(args, loader)[-2:]
    drawn = EPOCHS * [len(rows) for rows in loader.batch_sampler]
    kept = [round(rows * args.sift_keep_ratio) for rows in drawn]
    assert len(drawn) == updates
    assert figures(line) == [per_epoch, updates, sum(drawn), sum(kept)]
