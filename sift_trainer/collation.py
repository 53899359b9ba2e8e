"""What a collator makes of samples: rows that can be selected from, or something else.

A trainer with a loss of its own takes its batches apart in its own way: a reward model's are the
chosen answers and below them the rejected ones, an embedding's have the texts of every column.
Nothing says so but the batch itself, so the collator is tried on two samples.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import DataCollatorWithFlattening, Trainer, TrainingArguments
from transformers.trainer_utils import has_length

from sift_trainer.arguments import SiftArguments
from sift_trainer.batch import missing_field
from sift_trainer.composition import owner_of
from sift_trainer.positions import label_counts
from sift_trainer.random_state import random_state_kept
from sift_trainer.tasks import task_of
from sift_trainer.validation import check_first_batch, check_mapping

TRIED = 2
"""Samples that a collator is tried on."""


def tried_batch(data: Any, collator: Callable[[list[Any]], Any]) -> Any:
    """The batch of the first `TRIED` samples; None if it cannot be had.

    Of a stream it cannot, as what was read of it may be gone. Nor where the collator fails, as the
    Trainer takes columns away in front of it: what fails then too is told at the first batch.

    Args:
        data: the training data, or several under names, of which the first are tried.
    """
    if isinstance(data, Mapping):
        data = next(iter(data.values()), None)
    if not has_length(data) or not hasattr(data, "__getitem__") or len(data) < TRIED:
        return None
    try:
        with random_state_kept():
            return collator([data[index] for index in range(TRIED)])
    except Exception:  # of a collator of the user's own
        return None


def rows_of_a_sample(batch: Mapping[str, Any], samples: int) -> int:
    """How many rows the collator makes of one sample, where it makes several; else 1."""
    sizes = [len(value) for value in batch.values() if isinstance(value, Tensor) and value.dim()]
    return max([size // samples for size in sizes if size % samples == 0], default=1)


def check_packing(sift: SiftArguments, args: TrainingArguments, collator: Any) -> None:
    """Refuse a collator that flattens a batch into one row, by the fields that ask for it."""
    flattens = getattr(collator, "padding_free", False)
    flattens = flattens or isinstance(collator, DataCollatorWithFlattening)
    if sift.sift_keep_ratio == 1 or not flattens:
        return
    asked, instead = f"data_collator={type(collator).__name__}(...)", "one that pads"
    if getattr(args, "padding_free", False):
        asked, instead = "padding_free=True", "padding_free=False"
    elif getattr(args, "packing", False):
        strategy = getattr(args, "packing_strategy", None)
        asked = f"packing=True with packing_strategy={strategy!r}"
        instead = "packing_strategy='wrapped', whose rows are blocks, or packing=False"
    raise ValueError(
        f"{asked} flattens a batch into one row, and sifting selects rows; use {instead}"
    )


def check_own_loss(
    sift: SiftArguments, trainer: type, model: nn.Module, data: Any, collator: Any
) -> None:
    """Refuse a trainer with a loss of its own whose batches have no rows to select, or none that
    the model itself could score.

    Args:
        trainer: the class of the trainer.
        model: the bare module.
        data: what is trained on, of which two samples are collated.
    """
    owner = owner_of(trainer, "compute_loss")
    if sift.sift_keep_ratio == 1 or owner is Trainer:
        return
    if (batch := tried_batch(data, collator)) is None:
        return
    check_mapping(batch)
    made_by = f"{trainer.__name__} cannot sift: the collator, {_name_of(collator)}, makes"
    instead = f"train with {owner.__name__} alone, or set sift_keep_ratio=1.0"
    if (rows := rows_of_a_sample(batch, TRIED)) > 1:
        raise ValueError(
            f"{made_by} {rows} rows of a sample, which belong together in {owner.__name__}."
            f"compute_loss, and sifting, which keeps single rows, would tear them apart; {instead}"
        )
    if (field := missing_field(model, batch)) is not None:
        raise ValueError(
            f"{made_by} the fields {sorted(batch)}, and sifting scores them by {_name_of(model)}"
            f"(**batch), which has no {field!r} then: {owner.__name__}.compute_loss gives the "
            f"model something else; {instead}"
        )
    labels = batch.get("labels")
    task = task_of(model, labels if isinstance(labels, Tensor) else None)
    check_first_batch(batch, TRIED, TRIED, sift, task)


def check_rows_of_samples(trainer: type, rows: int, expected: int) -> None:
    """`check_own_loss` at the first batch, for samples that were not to be had before."""
    owner = owner_of(trainer, "compute_loss")
    if owner is not Trainer and rows > expected and rows % expected == 0:
        raise ValueError(
            f"the first batch has {rows} rows where {expected} candidates were drawn: the collator "
            f"makes several rows of a sample, which belong together in {owner.__name__}."
            "compute_loss, and sifting, which keeps single rows, would tear them apart; set "
            "sift_keep_ratio=1.0"
        )


def _name_of(thing: Any) -> str:
    return getattr(thing, "__name__", type(thing).__name__)


def labels_per_row(collator: Any, batch: Mapping[str, Any]) -> int | None:
    """The most labels of a row, as the collator's attribute ``labels_per_row`` says; None if it
    says nothing.

    Args:
        batch: the first one, which is held to it.

    Raises:
        ValueError: if that is no number of labels, or a row has more.
    """
    promised = getattr(collator, "labels_per_row", None)
    if promised is None:
        return None
    name = f"{type(collator).__name__}.labels_per_row={promised!r}"
    if type(promised) is not int or promised < 1:
        raise ValueError(f"{name} must be a whole number above 0, such as 19, or None")
    labels = batch.get("labels")
    if isinstance(labels, Tensor) and labels.dim() > 1:
        most = int(label_counts(labels).max())
        if most > promised:
            raise ValueError(
                f"{name}, but a row of the first batch has {most} labels, of which the rest would "
                f"be lost; give the most that a row can have, or None"
            )
    return promised
