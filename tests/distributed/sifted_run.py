"""Two epochs of sifting by loss on rows that do not divide evenly; each process writes its record.

``sifted_run.py FOLDER MODEL`` under a launcher.
"""

import json
import sys
from pathlib import Path

import torch

from sift_trainer import SiftTrainer, SiftTrainingArguments
from tests.distributed.launch import leave
from tests.invariants.scale_runs import build, rows

KEPT, ROWS, EPOCHS, RATE = 4, 29, 2, 0.05


class Recording(SiftTrainer):
    """Keeps, for each step, the token ids of the rows that were drawn and of those trained on."""

    record: list[dict]

    def training_step(self, model, inputs, num_items_in_batch=None):
        drawn = inputs["input_ids"].tolist()
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.record.append({"drawn": drawn, "kept": inputs["input_ids"].tolist()})
        return loss


def main(folder: Path, name: str) -> None:
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
    )
    trainer = Recording(build(name), args, train_dataset=rows(name, "ragged")[:ROWS])
    trainer.record = []
    trainer.train()
    rank = args.process_index
    torch.save(trainer.model.state_dict(), folder / f"model-{rank}.pt")
    record = {"world_size": args.world_size, "steps": trainer.record}
    (folder / f"record-{rank}.json").write_text(json.dumps(record))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
