"""A run has the updates, the schedule and the events of the stock Trainer's run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from sift_trainer import SiftTrainer, SiftTrainingArguments
from tests.training import RecordingTrainer, Rows, Stream, bert, quick, row_numbers

THROUGHOUT = {"sift_warmup_steps": 0, "sift_cooldown_steps": 0}


class Events(TrainerCallback):
    """Notes at which update each event comes."""

    def __init__(self) -> None:
        self.found: list[tuple[str, int]] = []

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.found.append(("epoch", state.global_step))

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.found.append(("evaluate", state.global_step))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.found.append(("save", state.global_step))


def of_run(kind: Any, folder: Path, data: Any, changes: dict[str, Any], resume: bool) -> Any:
    """Events, learning rates and epochs of the logged updates, and the number of updates."""
    sift = {} if kind is Trainer else {**THROUGHOUT, "sift_keep_ratio": changes["ratio"]}
    settings = {name: value for name, value in changes.items() if name != "ratio"}
    line = {"lr_scheduler_type": "linear", "eval_strategy": "epoch", "save_strategy": "epoch"}
    made = TrainingArguments if kind is Trainer else SiftTrainingArguments
    args = made(**quick(folder, **{"max_steps": -1, **line, **settings}), **sift)
    events = Events()
    trainer = kind(bert(), args, train_dataset=data, eval_dataset=Rows(8), callbacks=[events])
    if resume:
        saved = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))[0]
        trainer.train(resume_from_checkpoint=str(saved))
    else:
        trainer.train()
    logged = [line for line in trainer.state.log_history if "loss" in line]
    lines = [(line["step"], line["learning_rate"], line["epoch"]) for line in logged]
    return events.found, lines, trainer.state.global_step, trainer.state.num_train_epochs


class Sized(IterableDataset[dict[str, torch.Tensor]]):
    """A stream with a length."""

    def __len__(self) -> int:
        return 22

    def __iter__(self) -> Any:
        return iter(Stream(22))


@pytest.mark.parametrize("resume", [False, True], ids=["whole", "resumed"])
@pytest.mark.parametrize(
    ("data", "changes"),
    [
        (Rows(22), {"num_train_epochs": 3, "ratio": 0.5}),
        (Rows(22), {"num_train_epochs": 2, "ratio": 0.75, "gradient_accumulation_steps": 2}),
        (Rows(22), {"num_train_epochs": 2, "ratio": 0.3, "dataloader_drop_last": True}),
        (Rows(22), {"max_steps": 13, "ratio": 0.5}),
        (Sized(), {"num_train_epochs": 2, "ratio": 0.5}),
        (Stream(22), {"max_steps": 13, "ratio": 0.5}),
        (Stream(20), {"max_steps": 8, "ratio": 0.25, "gradient_accumulation_steps": 2}),
    ],
    ids=["rows", "accumulating", "whole batches", "steps", "sized", "stream", "stream, two"],
)
def test_the_run_is_as_long_as_the_stock_one(
    data: Any, changes: dict[str, Any], resume: bool, tmp_path: Path
) -> None:
    found = [
        of_run(kind, tmp_path / kind.__name__, data, changes, again)
        for kind in (Trainer, SiftTrainer)
        for again in ([False, True] if resume else [False])
    ]
    stock, sifted = found[len(found) // 2 - 1], found[-1]
    assert sifted == stock
    assert len(stock[1]) > 2


def test_steps_that_do_not_sift_train_on_the_stock_batches(tmp_path: Path) -> None:
    """The first half of the run does not sift: its parameters are the stock run's, bit for bit."""
    plain: list[list[int]] = []

    class Plain(Trainer):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            plain.append(row_numbers(inputs))
            return super().training_step(model, inputs, *args, **kwargs)

    settings = quick(tmp_path, max_steps=12)
    stock = Plain(bert(), TrainingArguments(**settings), train_dataset=Rows(30))
    stock.train()
    args = SiftTrainingArguments(**settings, sift_warmup_steps=8, sift_cooldown_steps=2)
    sifted = RecordingTrainer(bert(), args, train_dataset=Rows(30))
    sifted.train()
    assert sifted.kept[:8] == plain[:8]
    assert sifted.kept[10:] == plain[10:]
    assert sifted.kept[8:10] != plain[8:10]
    assert [each[: len(own)] for each, own in zip(sifted.candidates, plain, strict=True)] == plain
