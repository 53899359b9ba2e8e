"""Fields of a batch: those that the model's forward takes, and how many labels a sample has."""

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

from torch import Tensor, nn

from sift_trainer.scoring.positions import label_counts


def needed_fields(model: nn.Module) -> list[str]:
    """The arguments of the model's forward that have no default."""
    return [
        name
        for name, parameter in signature(model.forward).parameters.items()
        if parameter.default is Parameter.empty
        and parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    ]


def missing_field(model: nn.Module, batch: Mapping[str, Any]) -> str | None:
    """The first of `needed_fields` that the batch lacks; None if it has all."""
    return next((name for name in needed_fields(model) if name not in batch), None)


def with_known_fields(model: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    """``forward`` without the fields that the model's own forward does not take.

    A loss that is not the model's own reads such fields.
    """
    parameters = signature(model.forward).parameters
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return forward

    def known(**fields: Any) -> Any:
        return forward(**{name: value for name, value in fields.items() if name in parameters})

    return known


def labels_per_row(collator: Any, batch: Mapping[str, Any]) -> int | None:
    """The collator's attribute ``labels_per_row``: the most labels of a sample. None without it.

    Args:
        batch: the first one, which is compared with it.

    Raises:
        ValueError: if it is no number of labels, or a sample has more.
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
                f"{name}, but a sample of the first batch has {most} labels, and the rest would "
                "be lost; set the most that a sample can have, or None"
            )
    return promised
