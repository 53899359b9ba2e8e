"""Held-out batches from the evaluation set."""

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
    """Batches of random rows of ``trainer.eval_dataset``, on the CPU, different in each process.

    A set that is too small gives fewer batches, but at least one. The rows follow from the seed of
    the run. The global random states are restored.

    Args:
        trainer: its evaluation set has a length.
        rows: rows of a batch.
        batches: number of batches, of each process.
    """
    args, data = trainer.args, trainer.eval_dataset
    draw = torch.Generator().manual_seed(args.seed)
    most = min(len(data), batches * rows * args.world_size)
    chosen = Subset(data, torch.randperm(len(data), generator=draw)[:most].tolist())
    with random_state_kept([args.device]), _one_off_loader(args, rows):
        return list(trainer.get_eval_dataloader(chosen))


@contextmanager
def _one_off_loader(args: Any, rows: int) -> Iterator[None]:
    """A loader made in this context has batches of ``rows`` and keeps the last, short one.

    It has no workers: the Trainer would keep persistent workers for its own evaluations.
    """
    changes = {
        "per_device_eval_batch_size": rows // max(1, args.n_gpu),
        "dataloader_num_workers": 0,
        "dataloader_persistent_workers": False,
        "dataloader_prefetch_factor": None,
        "dataloader_drop_last": False,
    }
    before = {name: getattr(args, name) for name in changes}
    try:
        for name, value in changes.items():
            setattr(args, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(args, name, value)
