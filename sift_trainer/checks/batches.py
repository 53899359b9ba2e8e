"""Batches from which no samples can be selected are refused before the first update.

Trainers with their own loss may have several rows per sample, such as a chosen and a rejected
answer. Only a batch shows that, so at construction the collator makes a batch of two samples.
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
from sift_trainer.selection.rows import num_rows
from sift_trainer.selection.schedule import num_kept
from sift_trainer.sifted_model.fields import check_labels, needed_fields
from sift_trainer.sifted_model.no_trace import random_state_kept
from sift_trainer.sifted_model.trained_loss import owner_of

logger = logging.get_logger(__name__)

TRIED = 2
"""Samples in the batch that is collated at construction."""


def tried_batch(data: Any, collator: Callable[[list[Any]], Any]) -> Any:
    """The batch of the first `TRIED` samples; None for a stream, whose samples could be lost, or if
    the collator fails, as it may on columns that the Trainer removes later."""
    if not has_length(data) or not hasattr(data, "__getitem__") or len(data) < TRIED:
        return None
    try:
        with random_state_kept():
            return collator([data[index] for index in range(TRIED)])
    except Exception:  # the user's collator may raise anything
        return None


def check_packing(args: TrainingArguments, collator: Any) -> None:
    """Refuse a collator that flattens a batch into one row."""
    flattens = getattr(collator, "padding_free", False)
    if not flattens and not isinstance(collator, DataCollatorWithFlattening):
        return
    instead = "one that pads"
    if getattr(args, "padding_free", False):
        instead = "padding_free=False"
    elif getattr(args, "packing", False):
        instead = "packing_strategy='wrapped', whose rows are blocks, or packing=False"
    raise ValueError(
        f"data_collator={type(collator).__name__}(...) flattens a batch into one row, but sifting "
        f"selects rows; use {instead}"
    )


def check_collated_samples(
    sift: SiftArguments, trainer: type, model: nn.Module, data: Any, collator: Any, mixin: type
) -> None:
    """Refuse a trainer with its own loss whose batches have no rows to select, or none that the
    bare ``model`` could score."""
    owner = owner_of(trainer, "compute_loss", mixin)
    if owner is Trainer or (batch := tried_batch(data, collator)) is None:
        return
    check_mapping(batch)
    sizes = [len(value) for value in batch.values() if isinstance(value, Tensor) and value.dim()]
    check_rows_of_samples(owner, max([n for n in sizes if n % TRIED == 0], default=TRIED), TRIED)
    if missing := [name for name in needed_fields(model) if name not in batch]:
        raise ValueError(
            f"{trainer.__name__} cannot sift: sifting scores samples by {type(model).__name__}"
            f"(**batch), which has no {missing[0]!r}: its fields are {sorted(batch)}; "
            f"{_instead(owner)}"
        )
    labels = batch.get("labels")
    task = task_of(model, labels if isinstance(labels, Tensor) else None)
    check_labels(sift.sift_criterion, task, batch)


def check_rows_of_samples(owner: type, rows: int, samples: int) -> None:
    """Refuse several rows per sample, if ``owner`` defines a loss of its own."""
    if owner is not Trainer and rows > samples and rows % samples == 0:
        raise ValueError(
            f"the collator makes {rows // samples} rows of a sample, which belong together in "
            f"{owner.__name__}.compute_loss, but sifting keeps single rows; {_instead(owner)}"
        )


def _instead(owner: type) -> str:
    return f"train with {owner.__name__} alone, or set sift_keep_ratio=1.0"


def check_window(micro_batches: int) -> None:
    """Refuse a batch that SiftMixin has not drawn, if its accumulation window has others."""
    if micro_batches > 1:
        raise ValueError(
            f"an update has {micro_batches} micro-batches, and SiftMixin has not drawn this one: "
            "get_batch_samples must return what super().get_batch_samples(...) returns, and "
            "training_step must change the batch in place; or use gradient_accumulation_steps=1"
        )


def warn_of_unknown_losses(trainer: type, criterion: str) -> None:
    """Warn once that a criterion learns nothing, if no step shows the losses of its samples."""
    logger.warning_once(
        f"{trainer.__name__}.compute_loss does not show the losses of single samples, so "
        f"sift_criterion={criterion!r} learns nothing: the scores stay those of the exit's own "
        "head, and whether they agree with the losses is not measured; return "
        "super().compute_loss(...) from it, or use sift_keep_ratio=1.0"
    )


def check_mapping(batch: Any) -> None:
    """Refuse a batch that is not a mapping of fields."""
    if not isinstance(batch, Mapping):
        raise ValueError(
            f"a batch is a {type(batch).__name__}, not a mapping of fields with a row for each "
            "sample, so no rows can be selected; train without SiftMixin"
        )


def check_first_batch(
    trainer: Any,
    batch: Mapping[str, Any],
    sift: SiftArguments,
    candidates: int,
    task: Task,
    mixin: type,
) -> None:
    """Refuse, before any update, a batch without labels to score by or whose samples share a row.
    Warn if it has another number of rows than the ``candidates`` that a process draws."""
    rows = num_rows(batch)
    if trainer.state.global_step > 0 and trainer.accelerator.gradient_state.end_of_dataloader:
        candidates = rows  # resumed at the last batch of an epoch, which may be short
    check_rows_of_samples(owner_of(type(trainer), "compute_loss", mixin), rows, candidates)
    if rows == 1 and candidates > 1:
        raise ValueError(
            f"the first batch has 1 row where {candidates} candidates were drawn: the collator "
            "packs samples, or the data has 1 row for a process; use one sample per row, and more "
            "data or sift_keep_ratio=1.0"
        )
    if rows != candidates:
        logger.warning(
            f"the first batch has {rows} rows where {candidates} candidates were to be drawn, so "
            f"{num_kept(rows, sift.sift_keep_ratio)} are trained on: the data is that small, or "
            "an overridden get_train_dataloader yields another number"
        )
    check_labels(sift.sift_criterion, task, batch)
