"""Prints the planned and the measured peak of a real run, in bytes. test_plan.py starts it.

python tests/pretraining/peak_memory.py KEEP_RATIO FOLDER
"""

import ctypes
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import Dataset
from transformers import BertConfig

sys.path.insert(0, str(Path(__file__).parents[2]))

from sift_trainer import SiftTrainer, SiftTrainingArguments
from sift_trainer.reproduction.bert.plan import Plan
from tests.training import quick

ROWS, LENGTH, LABELS = 8, 128, 19
SIZE = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
}
NEXT_TO_NONE = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "vocab_size": 100,
}


@dataclass
class MaskedRows(Dataset):
    vocabulary: int

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.arange(LENGTH) % self.vocabulary
        labelled = (torch.arange(LENGTH) > 0) & (torch.arange(LENGTH) <= LABELS)
        return {
            "input_ids": ids,
            "token_type_ids": torch.zeros_like(ids),
            "labels": ids.masked_fill(~labelled, -100),
            "next_sentence_label": torch.tensor(index % 2),
        }


def train(config: BertConfig, args: SiftTrainingArguments) -> None:
    from transformers import BertForPreTraining

    SiftTrainer(
        BertForPreTraining(config), args, train_dataset=MaskedRows(config.vocab_size)
    ).train()


def main() -> None:
    # Freed blocks go back to the system at once, so that what is resident is what is in use.
    mmap_threshold, trim_threshold = -3, -1
    for option in (mmap_threshold, trim_threshold):
        assert ctypes.CDLL(None).mallopt(option, 65536) == 1
    settings = {
        "max_steps": 2,
        "per_device_train_batch_size": ROWS,
        "sift_keep_ratio": float(sys.argv[1]),
        "sift_warmup_steps": 0,
        "sift_cooldown_steps": 0,
    }
    args = SiftTrainingArguments(**{**quick(sys.argv[2]), **settings})
    train(BertConfig(**NEXT_TO_NONE), args)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    train(BertConfig(**SIZE), args)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    planned = Plan("peak", BertConfig(**SIZE), args, LENGTH, LABELS / LENGTH, processes=1)
    print(sum(planned.memory.values()), peak - before)


if __name__ == "__main__":
    main()
