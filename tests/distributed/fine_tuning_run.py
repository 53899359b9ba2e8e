"""Sifted fine-tuning by TRL, with accumulation; each process writes what it kept.

``fine_tuning_run.py FOLDER`` under a launcher.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from sift_trainer import SiftArguments, SiftMixin
from tests.distributed.launch import leave
from tests.trainers.sentences import causal, exact, parts, text, tokenizer

STEPS, ACCUMULATION, KEPT = 2, 2, 4
ROWS = 2 * STEPS * ACCUMULATION * 2 * KEPT


@dataclass
class Config(SiftArguments, SFTConfig):
    pass


class Recording(SiftMixin, SFTTrainer):
    """Keeps the token ids of the rows that were trained on, without padding."""

    record: list[list[list[int]]]

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        kept = zip(inputs["input_ids"].tolist(), inputs["attention_mask"].sum(1), strict=True)
        self.record.append([ids[:length] for ids, length in kept])
        return loss


def main(folder: Path) -> None:
    changes = {"max_steps": STEPS, "gradient_accumulation_steps": ACCUMULATION}
    args = Config(**exact(folder, **changes), sift_warmup_steps=0, sift_selector="top_k")
    samples = [{"prompt": text(a), "completion": " " + text(b)} for a, b in parts(ROWS)]
    trainer = Recording(
        causal(), args, train_dataset=Dataset.from_list(samples), processing_class=tokenizer()
    )
    trainer.record = []
    trainer.train()
    rank = args.process_index
    torch.save(trainer.model.state_dict(), folder / f"model-{rank}.pt")
    (folder / f"record-{rank}.json").write_text(json.dumps(trainer.record))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
