"""Resuming a run with the settings of the launch that was interrupted."""

from typing import Any

from transformers import TrainingArguments
from transformers.trainer_utils import has_length
from transformers.utils import logging

from sift_trainer.arguments import sift_arguments
from sift_trainer.selection.schedule import num_candidates

logger = logging.get_logger(__name__)


def launch_settings(args: TrainingArguments, loader: Any) -> dict[str, Any]:
    """The settings that decide the order of the data, from ``loader``, and the selection."""
    data = getattr(loader, "dataset", None)
    return {
        "world_size": args.world_size,
        "candidates per process": num_candidates(
            args.train_batch_size, sift_arguments(args).sift_keep_ratio
        ),
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "split_batches": bool(args.accelerator_config.split_batches),
        "dataloader_drop_last": args.dataloader_drop_last,
        "seed": args.seed,
        "data_seed": args.data_seed,
        "rows of training data": len(data) if data is not None and has_length(data) else None,
    }


def check_same_launch(before: dict[str, Any], now: dict[str, Any], new_order: bool) -> None:
    """Compare `launch_settings` of a checkpoint, empty for a plain Trainer's, and of this run. A
    ValueError for a difference, unless a ``new_order`` of the data is accepted."""
    changed = [name for name in now if before.get(name, now[name]) != now[name]]
    if not changed:
        return
    was, runs = (", ".join(f"{name}={of[name]!r}" for name in changed) for of in (before, now))
    found = f"the checkpoint was written with {was}; this run has {runs}"
    if new_order:
        logger.warning(f"{found}. It continues from the weights, with the data in a new order")
        return
    raise ValueError(
        f"cannot resume: {found}. It would train on other rows. Resume with {was}; or set "
        "ignore_data_skip=True to continue with the data in a new order; or start a new run from "
        "the weights in the checkpoint"
    )
