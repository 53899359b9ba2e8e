"""Rows of the evaluation set, towards whose loss audits look."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import Subset
from transformers import Trainer
from transformers.trainer_utils import has_length

from sift_trainer.arguments import SiftArguments
from sift_trainer.selection.rows import Batch
from sift_trainer.sifted_model.no_trace import random_state_kept

BATCHES = 8


def held_out_of(sift: SiftArguments, evaluated: Any) -> str:
    """Towards whose loss audits and probe look: one of `HELD_OUT`."""
    if sift.sift_held_out is not None:
        return sift.sift_held_out
    return "evaluation" if can_be_drawn_from(evaluated) else "candidates"


def can_be_drawn_from(evaluated: Any) -> bool:
    """Whether an evaluation set is one data set with a length."""
    return evaluated is not None and not isinstance(evaluated, Mapping) and has_length(evaluated)


def evaluation_batches(trainer: Trainer, rows: int, batches: int = BATCHES) -> list[Batch]:
    """Some batches of random rows of the evaluation set, on the CPU; of each process its own. Of a
    set too small for as many there are fewer, but one at least.

    Which rows these are follows from the seed of the run. The global random states stay.

    Args:
        rows: of a batch.
    """
    args, data = trainer.args, trainer.eval_dataset
    draw = torch.Generator().manual_seed(args.seed)
    most = min(len(data), batches * rows * args.world_size)
    chosen = Subset(data, torch.randperm(len(data), generator=draw)[:most].tolist())
    with random_state_kept([args.device]), _read_once(args, rows):
        return list(trainer.get_eval_dataloader(chosen))


@contextmanager
def _read_once(args: Any, rows: int) -> Iterator[None]:
    """Loaders that are made within have batches of so many rows, drop none, and have no workers,
    which the Trainer would keep for its evaluations if they are to persist."""
    changes = {
        "per_device_eval_batch_size": rows // max(1, args.n_gpu),
        "dataloader_num_workers": 0,
        "dataloader_persistent_workers": False,
        "dataloader_prefetch_factor": None,
        "dataloader_drop_last": False,
    }
    before = {name: getattr(args, name) for name in changes}
    for name, value in changes.items():
        setattr(args, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(args, name, value)
