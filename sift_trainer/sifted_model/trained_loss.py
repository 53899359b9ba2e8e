"""The loss of a batch in training: the model's own, or one that replaces it."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

from torch import Tensor, nn
from transformers import Trainer

LossOfRows = Callable[[dict[str, Any], Tensor], tuple[Tensor | None, Any]]
"""``(fields of some samples, number of their labels)`` -> their mean loss, and the outputs."""


@dataclass(frozen=True)
class TrainedLoss:
    """The loss of a batch in training.

    Attributes:
        replaced_by: why it is not the model's own; None if it is.
        of_rows: computes it; None if it is the model's own, or if only training can compute it.
        takes_count: whether the Trainer gives the model ``num_items_in_batch``.
    """

    replaced_by: str | None = None
    of_rows: LossOfRows | None = None
    takes_count: bool = False


def owner_of(cls: type, method: str, ignored: type | None = None) -> type:
    """The class that defines ``method`` for objects of ``cls``, apart from ``ignored``."""
    return next(base for base in cls.__mro__ if method in vars(base) and base is not ignored)


def gives_outputs(compute_loss: Callable[..., Any]) -> bool:
    """Whether it takes ``return_outputs``, as the Trainer's does."""
    parameters = signature(compute_loss).parameters.values()
    return any(
        each.name == "return_outputs" or each.kind is each.VAR_KEYWORD for each in parameters
    )


def trained_loss_of(
    trainer: Any, model: nn.Module, forward: Callable[..., Any], mixin: type
) -> TrainedLoss:
    """The loss of a trainer with ``mixin``; ``model`` is called with the labels, and ``forward``
    without them, if a function computes the loss of the outputs."""
    takes_count = bool(trainer.model_accepts_loss_kwargs)
    owner = owner_of(type(trainer), "compute_loss", mixin)
    if owner is not Trainer:
        return TrainedLoss(f"{owner.__name__} overrides compute_loss", None, takes_count)
    function = trainer.compute_loss_func
    if function is not None:

        def by_function(rows: dict[str, Any], count: Tensor) -> tuple[Tensor, Any]:
            labels = rows.pop("labels", None)
            outputs = forward(**rows)
            return function(outputs, labels, num_items_in_batch=count), outputs

        return TrainedLoss("compute_loss_func is set", by_function, takes_count)
    if trainer.label_smoother is not None:
        stock: Any = Trainer

        def smoothed(rows: dict[str, Any], count: Tensor) -> tuple[Tensor, Any]:
            loss, outputs = stock.compute_loss(trainer, model, rows, return_outputs=True)
            return loss, outputs

        return TrainedLoss("label_smoothing_factor is set", smoothed, takes_count)
    return TrainedLoss(takes_count=takes_count)
