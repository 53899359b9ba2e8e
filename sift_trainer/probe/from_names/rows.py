"""Rows to train on: blocks of text, and texts or images with their classes."""

from typing import Any, NamedTuple

_SHOWN = 5


def blocks_of(
    data: Any, column: str, tokenizer: Any, length: int, wanted: int, labelled: bool
) -> tuple[Any, list[str]]:
    """Rows of ``length`` tokens for language modelling, and a note for the report.

    Texts are joined and cut, as Transformers' example scripts do it. They are read from the front
    until there are enough; the rest is neither read nor tokenized.

    Args:
        wanted: largest number of rows.
        labelled: whether a row's labels are its tokens; otherwise a collator masks some.

    Raises:
        ValueError: for a value that is not a text, and for fewer than two rows.
    """
    from datasets import Dataset

    blocks: list[list[int]] = []
    rest: list[int] = []
    texts = 0
    for row in data.select_columns([column]):
        if len(blocks) >= wanted:
            break
        tokens = rest + tokenizer(_text(column, row[column]), verbose=False).input_ids
        end = len(tokens) // length * length
        blocks += [tokens[start : start + length] for start in range(0, end, length)]
        rest = tokens[end:]
        texts += 1
    blocks = blocks[:wanted]
    if len(blocks) < 2:
        raise ValueError(
            f"max_length={length} tokens: the {texts} texts of column {column!r} make fewer than "
            "two such blocks; use a smaller --max_length, or more data"
        )
    rows = {"input_ids": blocks, **({"labels": blocks} if labelled else {})}
    note = f"data: {len(blocks):,} blocks of {length} tokens from {texts:,} texts in {column}"
    more = "; texts behind them were not read" if len(blocks) == wanted else ""
    return Dataset.from_dict(rows), [note + more]


def random_rows(data: Any, wanted: int, seed: int) -> tuple[Any, list[str]]:
    """``wanted`` random rows, as many datasets are sorted by class, and a note for the report."""
    if len(data) <= wanted:
        return data, [f"data: all {len(data):,} rows"]
    chosen = data.shuffle(seed, keep_in_memory=True).select(range(wanted), keep_in_memory=True)
    return chosen, [f"data: {wanted:,} rows drawn at random from {len(data):,}"]


class Classes(NamedTuple):
    """The classes of a dataset.

    Attributes:
        ids: label, as the column has it -> class id.
        new_head: whether the model's saved head is for other classes.
        notes: for the report.
    """

    ids: dict[Any, int]
    new_head: bool
    notes: list[str]


def find_classes(data: Any, column: str, config: Any, trained: bool) -> Classes:
    """The classes of all rows; writes them into the configuration unless its own fit.

    A head that was trained for classification is kept if it has these labels, by name or by
    number. Otherwise classes are numbered as in the dataset, or in the order of the sorted labels.

    Args:
        trained: whether the saved model has a head for classification.

    Raises:
        ValueError: for labels that are neither class ids nor names, and for fewer than two classes.
    """
    labels = data.unique(column)
    whole = all(isinstance(label, int) and label >= 0 for label in labels)
    if len(labels) < 2 or not (whole or all(isinstance(label, str) for label in labels)):
        raise ValueError(
            f"label_column={column!r} holds {str(sorted(labels, key=str)[:_SHOWN])[1:-1]}; give a "
            "column with two or more names, or whole numbers from 0, and a split whose rows are "
            "all labelled"
        )
    named = getattr(data.features[column], "names", None)
    names = [str(name) for name in named or sorted(labels)]
    keys = range(len(names)) if named else sorted(labels)
    ids = {label: number for number, label in enumerate(keys)}
    had = config.num_labels
    config.problem_type = None  # one class for each row, whatever the head was trained for
    if trained and set(names) <= set(config.label2id):
        by_name = {label: config.label2id[names[number]] for label, number in ids.items()}
        return Classes(by_name, False, [])
    if trained and whole and max(labels) < had:
        return Classes({label: int(label) for label in labels}, False, [])
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    if not trained:
        return Classes(ids, False, [])
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    note = f"classes: the {len(names)} of {column} ({shown}), in this order, "
    if len(names) == had:
        note += "are taken for those of the model's head, which has other names"
    else:
        note += f"by a new head, as the model's own is for {had} others"
    return Classes(ids, len(names) != had, [note])


def text_rows(
    data: Any, columns: list[str], label: str, tokenizer: Any, length: int, classes: Classes
) -> Any:
    """Tokenized texts, or pairs of texts, with class ids; for a collator that pads.

    Raises:
        ValueError: for a value that is not a text.
    """
    from datasets import Dataset

    texts = [[_text(column, value) for value in data[column]] for column in columns]
    encoded = tokenizer(*texts, truncation=True, max_length=length)
    return Dataset.from_dict({**encoded, "labels": [classes.ids[each] for each in data[label]]})


def image_rows(data: Any, column: str, label: str, processor: Any, classes: Classes) -> Any:
    """Images with class ids. An image is decoded and processed when it is read."""
    from datasets import Image

    def prepare(rows: dict[str, list[Any]]) -> dict[str, Any]:
        pictures = [picture.convert("RGB") for picture in rows[column]]
        pixels = processor(pictures, return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "labels": [classes.ids[each] for each in rows[label]]}

    # Columns with paths or bytes become images too.
    images = data.cast_column(column, Image()).select_columns([column, label])
    return images.with_transform(prepare)


def _text(column: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(
            f"column {column!r} holds {value!r:.60}, which is not a text; drop such rows"
        )
    return value
