"""A column of labels as class ids, and a configuration of as many classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_SHOWN = 5


@dataclass(frozen=True)
class Classes:
    """The classes of a dataset.

    Attributes:
        ids: label, as the column has it -> class id.
        new_head: whether the model's saved head, if it has one, is for other classes.
        notes: what the report should say of them.
    """

    ids: dict[Any, int]
    new_head: bool
    notes: list[str]

    def of(self, labels: Sequence[Any]) -> list[int]:
        """Class ids of labels that are among them."""
        return [self.ids[label] for label in labels]


def find_classes(data: Any, column: str, config: Any, trained: bool) -> Classes:
    """The classes of all rows of a dataset; sets the configuration's ``id2label`` if it needs other
    ones than it has.

    A head that was trained for classification is kept where it has these labels, by name or by
    number. Otherwise the classes are numbered as the dataset does it, or in the order of the sorted
    labels.

    Args:
        trained: whether the configuration's classes are those of a head that was saved.

    Raises:
        ValueError: for labels that are no class ids or names, or fewer than two classes.
    """
    labels = data.unique(column)
    for label in labels:
        if not isinstance(label, str | int) or (isinstance(label, int) and label < 0):
            raise ValueError(
                f"label_column={column!r} holds {label!r:.60}, which is no class; give a column of "
                "whole numbers from 0 or of names, and a split of which all rows are labelled"
            )
    if len({type(label) for label in labels}) > 1:
        raise ValueError(f"label_column={column!r} holds names and numbers; give one of the two")
    named = getattr(data.features[column], "names", None)
    names = [str(name) for name in named or sorted(labels)]
    if len(names) < 2:
        raise ValueError(
            f"label_column={column!r} holds nothing but {labels[0]!r}; classification needs two "
            "classes or more"
        )
    config.problem_type = None  # of one class a row, whatever the head was trained for before
    numbers = range(len(names))
    ids = dict(zip(numbers if named else sorted(labels), numbers, strict=True))
    if trained:
        if set(names) <= set(config.label2id):
            by_name = dict(zip(ids, (config.label2id[name] for name in names), strict=True))
            return Classes(by_name, False, [])
        if not isinstance(labels[0], str) and max(labels) < config.num_labels:
            return Classes({label: int(label) for label in labels}, False, [])
    had = config.num_labels
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    # Of as many classes the head's weights fit; whether their order is this one nobody can tell.
    fits = trained and len(names) == had
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    note = f"classes: the {len(names)} of {column} ({shown}), in this order, "
    if fits:
        note += "are taken for those of the model's head, which has other names"
    elif trained:
        note += f"by a new head, as the model's own is for {had} others"
    return Classes(ids, trained and not fits, [note] if trained else [])
