"""Batches from which no samples can be selected are refused before the first update.

A trainer with its own loss may have batches of its own layout: a reward model's have the chosen
answers first and the rejected ones below, an embedding model's have the texts of every column. Only
a batch shows that, so at construction the collator makes a batch of two samples.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import DataCollatorWithFlattening, Trainer, TrainingArguments
from transformers.trainer_utils import has_length
from transformers.utils import logging

from sift_trainer.arguments import SiftArguments
from sift_trainer.scoring.task import Task
from sift_trainer.scoring.tasks import task_of
from sift_trainer.selection.schedule import num_kept
from sift_trainer.sifted_model.fields import check_labels, missing_field
from sift_trainer.sifted_model.no_trace import random_state_kept
from sift_trainer.sifted_model.trained_loss import owner_of

logger = logging.get_logger(__name__)

TRIED = 2
"""Samples in the batch that is collated at construction."""


def tried_batch(data: Any, collator: Callable[[list[Any]], Any]) -> Any:
    """The batch of the first `TRIED` samples; None for a stream, or if the collator fails.

    A stream is not read, because its samples could be lost. The collator may fail here because the
    Trainer has not removed columns yet; if it also fails in training, the first batch raises.

    Args:
        data: the training data, or a mapping of several, of which the first is used.
    """
    if isinstance(data, Mapping):
        data = next(iter(data.values()), None)
    if not has_length(data) or not hasattr(data, "__getitem__") or len(data) < TRIED:
        return None
    try:
        with random_state_kept():
            return collator([data[index] for index in range(TRIED)])
    except Exception:  # the user's collator may raise anything
        return None


def rows_of_a_sample(batch: Mapping[str, Any], samples: int) -> int:
    """The number of rows that the collator makes of one sample."""
    sizes = [len(value) for value in batch.values() if isinstance(value, Tensor) and value.dim()]
    return max([size // samples for size in sizes if size % samples == 0], default=1)


def check_packing(args: TrainingArguments, collator: Any) -> None:
    """Refuse a collator that flattens a batch into one row, and name the argument that sets it."""
    flattens = getattr(collator, "padding_free", False)
    if not flattens and not isinstance(collator, DataCollatorWithFlattening):
        return
    setting, instead = f"data_collator={type(collator).__name__}(...)", "one that pads"
    if getattr(args, "padding_free", False):
        setting, instead = "padding_free=True", "padding_free=False"
    elif getattr(args, "packing", False):
        strategy = getattr(args, "packing_strategy", None)
        setting = f"packing=True with packing_strategy={strategy!r}"
        instead = "packing_strategy='wrapped', whose rows are blocks, or packing=False"
    raise ValueError(
        f"{setting} flattens a batch into one row, but sifting selects rows; use {instead}"
    )


def check_collated_samples(
    sift: SiftArguments,
    trainer: type,
    model: nn.Module,
    data: Any,
    collator: Any,
    mixin: type,
) -> None:
    """Refuse a trainer with its own loss whose batches have no rows to select, or no rows that the
    model itself could score.

    Args:
        trainer: the class of the trainer.
        model: the bare module.
        data: the training data, of which two samples are collated.
        mixin: the class that makes the trainer sift.

    Raises:
        ValueError: names the collator, what it makes, and what to do.
    """
    owner = owner_of(trainer, "compute_loss", mixin)
    if owner is Trainer or (batch := tried_batch(data, collator)) is None:
        return
    check_mapping(batch)
    made_by = f"{trainer.__name__} cannot sift: the collator, {_name_of(collator)}, makes"
    if (rows := rows_of_a_sample(batch, TRIED)) > 1:
        raise ValueError(f"{made_by} {rows} {_separated(owner)}")
    if (field := missing_field(model, batch)) is not None:
        raise ValueError(
            f"{made_by} the fields {sorted(batch)}, and sifting scores them by {_name_of(model)}"
            f"(**batch), which has no {field!r} then: {owner.__name__}.compute_loss gives the "
            f"model something else; {_instead(owner)}"
        )
    labels = batch.get("labels")
    task = task_of(model, labels if isinstance(labels, Tensor) else None)
    check_first_batch(batch, TRIED, TRIED, sift, task)


def check_rows_of_samples(trainer: type, rows: int, expected: int, mixin: type) -> None:
    """Refuse, at the first batch, several rows per sample: a stream is not collated before."""
    owner = owner_of(trainer, "compute_loss", mixin)
    if owner is not Trainer and rows > expected and rows % expected == 0:
        raise ValueError(
            f"the first batch has {rows} rows for {expected} candidates: the collator makes "
            f"{rows // expected} {_separated(owner)}"
        )


def _separated(owner: type) -> str:
    return (
        f"rows of a sample, which belong together in {owner.__name__}.compute_loss, but sifting "
        f"keeps single rows; {_instead(owner)}"
    )


def _instead(owner: type) -> str:
    return f"train with {owner.__name__} alone, or set sift_keep_ratio=1.0"


def _name_of(thing: Any) -> str:
    return getattr(thing, "__name__", type(thing).__name__)


def check_window(micro_batches: int) -> None:
    """Refuse a batch that SiftMixin has not drawn, if its accumulation window has others."""
    if micro_batches > 1:
        raise ValueError(
            f"an update has {micro_batches} micro-batches, and SiftMixin has not drawn this batch, "
            "so it cannot count the labels of the others. An overridden get_batch_samples must "
            "return what super().get_batch_samples(...) returns; an overridden training_step must "
            "pass the batch itself to super().training_step(...), not a copy; or use "
            "gradient_accumulation_steps=1"
        )


def check_mapping(batch: Any) -> None:
    """Refuse a batch that is not a mapping of fields."""
    if not isinstance(batch, Mapping):
        raise ValueError(
            f"a batch is a {type(batch).__name__}, not a mapping of fields with a row for each "
            "sample, so no rows can be selected; train without SiftMixin"
        )


def check_first_batch(
    batch: Mapping[str, Any], rows: int, expected: int, sift: SiftArguments, task: Task
) -> None:
    """Refuse, before any update, a batch without labels to score by or whose samples share a row.
    Warn if it has another number of rows than candidates were drawn.

    Args:
        rows: the number of its rows.
        expected: the number of candidates that were to be drawn.
    """
    if rows == 1 and expected > 1:
        raise ValueError(
            f"the first batch has 1 row where {expected} candidates were drawn: the collator packs "
            "samples into one row, or the data of this process has 1 row; use one sample per row, "
            "and more data or sift_keep_ratio=1.0"
        )
    if rows != expected:
        logger.warning(
            f"the first batch has {rows} rows where {expected} candidates were to be drawn, so "
            f"{num_kept(rows, sift.sift_keep_ratio)} are trained on: the data is that small, or "
            "an overridden get_train_dataloader does not yield round(per_device_train_batch_size "
            "/ sift_keep_ratio) rows"
        )
    check_labels(sift.sift_criterion, task, batch)
