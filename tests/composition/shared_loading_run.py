"""Sifting in two processes, by each way of loading; each process writes what it did.

``shared_loading_run.py FOLDER`` under a launcher.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from sift_trainer import SiftTrainer
from tests.composition.replay import Gradient, arguments
from tests.distributed.launch import leave
from tests.invariants.scale_runs import build, rows

NAME, KEPT, ROWS, EPOCHS = "bert_masked_lm", 4, 21, 2
SPLIT = {"split_batches": True, "dispatch_batches": False}
SETTINGS = {
    "separate": {},
    "dispatched": {"accelerator_config": {"dispatch_batches": True}},
    "split": {"accelerator_config": SPLIT},
    "streamed": {},
}
UNEVEN = [(5, 0.5), (6, 0.66)]  # rows that both train on together; the second of 9 candidates


def data() -> list[dict[str, Tensor]]:
    return rows(NAME, "ragged")[:ROWS]


class Stream(IterableDataset[dict[str, Tensor]]):
    """Read by the first process alone, unless it is told otherwise."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return iter(data())


class Recording(SiftTrainer):
    def training_step(self, model, inputs, num_items_in_batch=None):
        drawn = inputs["input_ids"].tolist()
        loss = super().training_step(model, inputs, num_items_in_batch)
        (selection,) = self.selections
        self.record.append(
            {
                "drawn": drawn,
                "kept": inputs["input_ids"].tolist(),
                "scores": selection.scores.tolist(),
            }
        )
        return loss


def refusal(folder: Path, batch_size: int, ratio: float) -> str:
    args = arguments(
        folder,
        per_device_train_batch_size=batch_size,
        sift_keep_ratio=ratio,
        accelerator_config={"split_batches": True},
    )
    try:
        SiftTrainer(build(NAME), args, train_dataset=data())
    except ValueError as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    records, gradients = {}, {}
    for name, changes in SETTINGS.items():
        streamed = name == "streamed"
        args = arguments(
            folder / name,
            max_steps=4 if streamed else -1,
            num_train_epochs=EPOCHS,
            train_sampling_strategy="random",
            **changes,
        )
        gradient = Gradient()
        trainer = Recording(
            build(NAME),
            args,
            train_dataset=Stream() if streamed else data(),
            callbacks=[gradient],
        )
        trainer.record = []
        trainer.train()
        records[name] = {
            "steps": trainer.record,
            "last": trainer.state.log_history[-1],
        }
        gradients[name] = gradient.noted
    records["refused"] = [refusal(folder, *each) for each in UNEVEN]
    torch.save(gradients, folder / f"gradients-{args.process_index}.pt")
    (folder / f"record-{args.process_index}.json").write_text(json.dumps(records))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
