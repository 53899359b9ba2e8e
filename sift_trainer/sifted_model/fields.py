"""Fields of a batch: those that the model's forward takes, and how many labels a sample has."""

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

from torch import Tensor, nn

from sift_trainer.scoring.criteria import CRITERIA
from sift_trainer.scoring.positions import label_counts
from sift_trainer.scoring.task import Task


def needed_fields(model: nn.Module) -> list[str]:
    """The arguments of the model's forward that have no default."""
    return [
        name
        for name, parameter in signature(model.forward).parameters.items()
        if parameter.default is Parameter.empty
        and parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    ]


def with_known_fields(model: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    """``forward`` that drops the fields which the model's own forward does not take: a loss that is
    not the model's own may read them."""
    parameters = signature(model.forward).parameters
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return forward

    def known(**fields: Any) -> Any:
        return forward(**{name: value for name, value in fields.items() if name in parameters})

    return known


def check_labels(criterion: str, task: Task, batch: Mapping[str, Any]) -> None:
    """Raise a ValueError for a batch without the labels of ``task`` that the criterion needs."""
    missing = [name for name in task.fields if not isinstance(batch.get(name), Tensor)]
    if CRITERIA[criterion].needs_labels and missing:
        raise ValueError(
            f"sift_criterion={criterion!r} needs {' and '.join(map(repr, missing))} in the batch, "
            f"which has {sorted(batch)}; add them in the collator, or use sift_criterion='entropy'"
        )


def labels_per_row(collator: Any, batch: Mapping[str, Any]) -> int | None:
    """The collator's attribute ``labels_per_row``: the most labels of a sample. None without it.

    Raises:
        ValueError: if it is not a whole number above 0, or a sample of the first batch has more.
    """
    promised = getattr(collator, "labels_per_row", None)
    if promised is None:
        return None
    name = f"{type(collator).__name__}.labels_per_row={promised!r}"
    if type(promised) is not int or promised < 1:
        raise ValueError(f"{name} must be a whole number above 0, such as 19, or None")
    labels = batch.get("labels")
    most = int(label_counts(labels).max()) if isinstance(labels, Tensor) and labels.dim() > 1 else 0
    if most > promised:
        raise ValueError(
            f"{name}, but a sample of the first batch has {most} labels, so some would be lost; "
            "set the most that a sample can have, or None"
        )
    return promised
