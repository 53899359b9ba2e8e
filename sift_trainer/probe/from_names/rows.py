"""Rows to train on: blocks of text, and texts or images with their classes."""

from typing import Any


def blocks_of(
    data: Any, column: str, tokenizer: Any, length: int, wanted: int, labelled: bool
) -> tuple[Any, str]:
    """Rows of ``length`` tokens for language modelling, and a note for the report.

    Texts are joined and cut, as Transformers' example scripts do it. They are read from the front
    until there are enough; the rest is neither read nor tokenized.

    Args:
        wanted: largest number of rows.
        labelled: whether a row's labels are its tokens; otherwise a collator masks some.
    """
    from datasets import Dataset

    tokens: list[int] = []
    texts = 0
    for row in data.select_columns([column]):
        if len(tokens) >= wanted * length:
            break
        tokens += tokenizer(row[column], verbose=False).input_ids
        texts += 1
    count = min(wanted, len(tokens) // length)
    if count < 2:
        raise ValueError(
            f"max_length={length} tokens: the {texts} texts of column {column!r} make fewer than "
            "two such blocks; use a smaller --max_length, or more data"
        )
    blocks = [tokens[number * length : (number + 1) * length] for number in range(count)]
    rows = {"input_ids": blocks, **({"labels": blocks} if labelled else {})}
    note = f"data: {count:,} blocks of {length} tokens from the first {texts:,} texts in {column}"
    return Dataset.from_dict(rows), note


def random_rows(data: Any, wanted: int, seed: int) -> tuple[Any, str]:
    """``wanted`` random rows, as many datasets are sorted by class, and a note for the report."""
    if len(data) <= wanted:
        return data, f"data: all {len(data):,} rows"
    chosen = data.shuffle(seed, keep_in_memory=True).select(range(wanted), keep_in_memory=True)
    return chosen, f"data: {wanted:,} rows drawn at random from {len(data):,}"


def class_ids(data: Any, column: str, config: Any, trained: bool) -> dict[Any, int]:
    """Label, as the column has it -> class id; writes the classes into the configuration unless
    its own fit.

    A head that was trained for classification is kept if it has these labels, by name or by
    number. Otherwise classes are numbered as in the dataset, or in the order of the sorted labels.
    ``trained`` says whether the saved model has such a head.
    """
    labels = data.unique(column)
    whole = all(isinstance(label, int) and label >= 0 for label in labels)
    if len(labels) < 2 or not (whole or all(isinstance(label, str) for label in labels)):
        raise ValueError(
            f"label_column={column!r} holds {str(sorted(labels, key=str)[:5])[1:-1]}; give a "
            "column with two or more names, or whole numbers from 0, and a split whose rows are "
            "all labelled"
        )
    named = getattr(data.features[column], "names", None)
    names = [str(name) for name in named or sorted(labels)]
    ids = {
        label: number for number, label in enumerate(range(len(names)) if named else sorted(labels))
    }
    config.problem_type = None  # one class for each row, whatever the head was trained for
    if trained and set(names) <= set(config.label2id):
        return {label: config.label2id[names[number]] for label, number in ids.items()}
    if trained and whole and max(labels) < config.num_labels:
        return {label: int(label) for label in labels}
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    return ids


def text_rows(
    data: Any, columns: list[str], label: str, tokenizer: Any, length: int, ids: dict[Any, int]
) -> Any:
    """Tokenized texts, or pairs of texts, with class ids; for a collator that pads."""
    from datasets import Dataset

    texts = [list(data[column]) for column in columns]
    encoded = tokenizer(*texts, truncation=True, max_length=length)
    return Dataset.from_dict({**encoded, "labels": [ids[each] for each in data[label]]})


def image_rows(data: Any, column: str, label: str, processor: Any, ids: dict[Any, int]) -> Any:
    """Images with class ids. An image is decoded and processed when it is read."""
    from datasets import Image

    def prepare(rows: dict[str, list[Any]]) -> dict[str, Any]:
        pictures = [picture.convert("RGB") for picture in rows[column]]
        pixels = processor(pictures, return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "labels": [ids[each] for each in rows[label]]}

    # Columns with paths or bytes become images too.
    images = data.cast_column(column, Image()).select_columns([column, label])
    return images.with_transform(prepare)
