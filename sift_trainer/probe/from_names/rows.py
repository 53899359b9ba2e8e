"""Opens a dataset and makes rows of it: blocks of text, and texts or images with classes.

`datasets` reads data files alone: a dataset that needs its own code is refused.
"""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_READERS = dict.fromkeys((".json", ".jsonl"), "json")
_READERS |= {".txt": "text", ".csv": "csv", ".parquet": "parquet"}
_SAVED = ("state.json", "dataset_dict.json")  # files that save_to_disk writes


def open_dataset(
    names: Sequence[str], split: str = "train", config: str | None = None, streaming: bool = False
) -> Any:
    """A split of files or patterns of one kind, or of one folder or hub id; a
    `datasets.IterableDataset` for ``streaming`` where that is possible."""
    import datasets

    place = Path(names[0])
    if any((place / name).is_file() for name in _SAVED):
        found = datasets.load_from_disk(names[0])
        return found[split] if isinstance(found, datasets.DatasetDict) else found
    kinds = {_suffix(name) for name in names}
    if place.is_dir() or not (glob.glob(names[0]) or kinds <= set(_READERS)):
        # The cache of the hub, which is read offline, cannot be streamed.
        streaming = streaming and (place.is_dir() or not datasets.config.HF_HUB_OFFLINE)
        return datasets.load_dataset(names[0], config, split=split, streaming=streaming)
    if len(kinds) > 1 or not kinds <= set(_READERS):
        raise ValueError(
            f"dataset={' '.join(names)!r} is not of one kind that is read; give files or patterns "
            f"that end in one of {', '.join(_READERS)}, also compressed"
        )
    reader = _READERS[kinds.pop()]
    return datasets.load_dataset(reader, data_files=[*names], split=split, streaming=streaming)


def column_of(data: Any, field: str, given: str | None, usual: Sequence[str]) -> str:
    """The column that the flag ``field`` gives, or the first usual name that the dataset has."""
    columns = data.column_names or list(next(iter(data)))
    for name in usual if given is None else [given]:
        if name in columns:
            return name
    raise ValueError(
        f"{field}={given!r} and the dataset has no column {given or ' or '.join(usual)}; write for "
        f"example --{field} {columns[0]}; the columns are {', '.join(columns)}"
    )


def _suffix(name: str) -> str:
    found = Path(name).suffixes[-2:]  # the last one may be of a compression
    return next((each for each in reversed(found) if each in _READERS), "")


def blocks_of(
    data: Any, column: str, tokenizer: Any, length: int, wanted: int, labelled: bool
) -> tuple[Any, str]:
    """Rows of ``length`` tokens for language modelling, and a note for the report.

    Texts are joined and cut, as in Transformers' example scripts, from the front until there are
    ``wanted`` rows. ``labelled``: a row's labels are its tokens; otherwise a collator masks some.
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
    if count == 0:
        raise ValueError(f"max_length={length}: the texts of column {column!r} have fewer tokens")
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
    from datasets import Dataset

    texts = [list(data[column]) for column in columns]
    encoded = tokenizer(*texts, truncation=True, max_length=length)
    return Dataset.from_dict({**encoded, "labels": [ids[each] for each in data[label]]})


def image_rows(data: Any, column: str, label: str, processor: Any, ids: dict[Any, int]) -> Any:
    from datasets import Image

    def prepare(rows: dict[str, list[Any]]) -> dict[str, Any]:
        pictures = [picture.convert("RGB") for picture in rows[column]]
        pixels = processor(pictures, return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "labels": [ids[each] for each in rows[label]]}

    # Columns with paths or bytes become images too.
    images = data.cast_column(column, Image()).select_columns([column, label])
    return images.with_transform(prepare)
