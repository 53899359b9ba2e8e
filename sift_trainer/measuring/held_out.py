"""Held-out batches from the evaluation set."""

from collections.abc import Mapping
from copy import copy
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
    """Towards whose loss audits and probe look, a ``sift_held_out``."""
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
    """
    args, data = trainer.args, trainer.eval_dataset
    draw = torch.Generator().manual_seed(args.seed)
    most = min(len(data), batches * rows * args.world_size)
    chosen = Subset(data, torch.randperm(len(data), generator=draw)[:most].tolist())
    # Without workers: the Trainer would keep persistent ones for its own evaluations.
    trainer.args = copy(args)
    trainer.args.per_device_eval_batch_size = rows // max(1, args.n_gpu)
    trainer.args.dataloader_num_workers = 0
    trainer.args.dataloader_persistent_workers = False
    trainer.args.dataloader_prefetch_factor = None
    trainer.args.dataloader_drop_last = False
    try:
        with random_state_kept([args.device]):
            return list(trainer.get_eval_dataloader(chosen))
    finally:
        trainer.args = args
