"""Two epochs of sifting by loss on rows that do not divide evenly; each process writes its record.

``sifted_run.py FOLDER`` under a launcher.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import default_data_collator

from sift_trainer import SiftTrainer, SiftTrainingArguments
from tests.distributed.launch import leave
from tests.invariants.scale_runs import build, rows

KEPT, ROWS, EPOCHS, RATE = 4, 29, 2, 0.05
RUNS = ("bert_pretraining", "llama", "bert_pretraining compiled")  # compiled for static shapes


class Recording(SiftTrainer):
    """Keeps, for each step, the token ids of the rows that were drawn and of those trained on."""

    record: list[dict]

    def training_step(self, model, inputs, num_items_in_batch=None):
        drawn = inputs["input_ids"].tolist()
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.record.append({"drawn": drawn, "kept": inputs["input_ids"].tolist()})
        return loss


class Collator:
    """Says how many labels a row has at most."""

    def __init__(self, data):
        self.labels_per_row = max(int((row["labels"] != -100).sum()) for row in data)

    def __call__(self, batch):
        return default_data_collator(batch)


def train(folder: Path, name: str, compiled: bool) -> None:
    data = rows(name, "ragged")[:ROWS]
    args = SiftTrainingArguments(
        str(folder),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=KEPT,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        sift_warmup_steps=0,
        sift_cooldown_steps=0,
        torch_compile=compiled,
        torch_compile_backend="aot_eager" if compiled else None,
    )
    collator = Collator(data) if compiled else None
    trainer = Recording(build(name), args, collator, train_dataset=data)
    trainer.record = []
    trainer.train()
    rank = args.process_index
    torch.save(trainer.model.state_dict(), folder / f"model-{rank}.pt")
    record = {"world_size": args.world_size, "steps": trainer.record}
    (folder / f"record-{rank}.json").write_text(json.dumps(record))


def main(folder: Path) -> None:
    for run in RUNS:
        name, *compiled = run.split()
        train(folder / run, name, bool(compiled))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
