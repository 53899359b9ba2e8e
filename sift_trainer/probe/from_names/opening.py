"""A dataset from the hub, from local files or a folder, or one that ``save_to_disk`` wrote.

`datasets` reads all of it, from data files alone: a dataset that needs its own code is refused.
"""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_READERS = dict.fromkeys((".json", ".jsonl"), "json")
_READERS |= {".txt": "text", ".csv": "csv", ".parquet": "parquet"}
_COMPRESSED = (".gz", ".xz", ".bz2", ".zst")
_SAVED = ("state.json", "dataset_dict.json")  # files that save_to_disk writes


def open_dataset(
    names: Sequence[str], split: str = "train", config: str | None = None, streaming: bool = False
) -> Any:
    """A split, as a `datasets.Dataset` or `datasets.IterableDataset`.

    Args:
        names: files or patterns of one kind, or one folder or hub id.
        config: configuration of a dataset on the hub.
        streaming: read rows one after the other if that is possible, without a cache.
    """
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            'reading a dataset needs datasets: pip install "sift-trainer[data]"'
        ) from error
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
            f"that end in one of {', '.join(_READERS)}, also with {', '.join(_COMPRESSED)} behind"
        )
    reader = _READERS[kinds.pop()]
    return datasets.load_dataset(reader, data_files=[*names], split=split, streaming=streaming)


def column_of(data: Any, field: str, given: str | None, usual: Sequence[str]) -> str:
    """The column that is given, or else the first of the usual names that the dataset has.

    ``field`` is the name of the flag.
    """
    columns = data.column_names or list(next(iter(data)))
    for name in usual if given is None else [given]:
        if name in columns:
            return name
    raise ValueError(
        f"{field}={given!r} and the dataset has no column {given or ' or '.join(usual)}; write for "
        f"example --{field} {columns[0]}; the columns are {', '.join(columns)}"
    )


def _suffix(name: str) -> str:
    """The suffix without that of a compression."""
    suffixes = [each for each in Path(name).suffixes[-2:] if each not in _COMPRESSED]
    return suffixes[-1] if suffixes else ""
