"""What processes send each other, and in which phase of a step; each process writes its notes.

``collectives_run.py FOLDER`` under a launcher.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

import sift_trainer.callback
from sift_trainer import SiftTrainer
from sift_trainer.measuring.timing import StepTimer
from tests.distributed.launch import leave
from tests.invariants import scale_runs
from tests.reproduction.resnet.small_resnet import Images, resnet
from tests.training import arguments

KEPT, STEPS, ROWS, ACCUMULATION = 2, 3, 32, 2
COLLECTIVES = {"c10d", "_c10d_functional", "_c10d_functional_autograd"}


class Run(NamedTuple):
    model: str

    def build(self) -> PreTrainedModel:
        return resnet() if self.model == "resnet" else scale_runs.build(self.model)

    def rows(self) -> Any:
        return Images(ROWS) if self.model == "resnet" else scale_runs.rows(self.model, "ragged")


RUNS = {
    "bert": Run("bert_pretraining"),
    "llama": Run("llama"),
    "resnet": Run("resnet"),
}

notes: list[str] = []


class Notes(TorchDispatchMode):
    """Writes down every collective that this thread begins, from Python or from DDP's reducer, with
    the number of elements it carries."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in COLLECTIVES:
            elements = sum(x.numel() for x in tree_leaves(args[0]) if isinstance(x, torch.Tensor))
            notes.append(f"{func._opname} {elements}")
        return func(*args, **(kwargs or {}))


class NotedTimer(StepTimer):
    """Writes down where each phase begins and ends."""

    def start(self, phase: str) -> None:
        notes.append(f"start {phase}")
        super().start(phase)

    def stop(self, phase: str) -> None:
        if phase in self._open:
            notes.append(f"stop {phase}")
        super().stop(phase)


def train(run: Run) -> list[str]:
    args = arguments(
        tempfile.mkdtemp(),
        max_steps=STEPS,
        per_device_train_batch_size=KEPT,
        gradient_accumulation_steps=ACCUMULATION,
        logging_strategy="no",
        sift_selector="top_k",
    )
    notes.clear()
    SiftTrainer(run.build(), args, train_dataset=run.rows()).train()
    return list(notes)


def main(folder: Path) -> None:
    sift_trainer.callback.StepTimer = NotedTimer
    with Notes():
        found = {name: train(run) for name, run in RUNS.items()}
    rank = torch.distributed.get_rank()
    (folder / f"notes-{rank}.json").write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
