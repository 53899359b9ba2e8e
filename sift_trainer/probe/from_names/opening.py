"""A dataset from the hub, from local files or a folder, or one that ``save_to_disk`` wrote.

`datasets` reads all of it, from data files alone: a dataset that needs its own code is refused.
"""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_READERS: dict[str, tuple[str, dict[str, str]]] = {
    ".txt": ("text", {}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
    ".parquet": ("parquet", {}),
}
_COMPRESSED = (".gz", ".xz", ".bz2", ".zst")
_SAVED = ("state.json", "dataset_dict.json")  # files that save_to_disk writes


def open_dataset(
    names: Sequence[str], split: str = "train", config: str | None = None, streaming: bool = False
) -> Any:
    """A split, as a `datasets.Dataset` or `datasets.IterableDataset`.

    Args:
        names: files or patterns of one kind, or one folder or hub id.
        split: its name.
        config: configuration of a dataset on the hub.
        streaming: read rows one after the other if that is possible, without a cache.

    Raises:
        ValueError: for files that do not exist or cannot be read, and for an unknown split.
        OSError: if there is no such dataset on the hub, or the hub cannot be reached.
        ImportError: naming the extra to install, if `datasets` is missing.
    """
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            'reading a dataset needs datasets: pip install "sift-trainer[data]"'
        ) from error
    place = Path(names[0]).expanduser()
    if len(names) == 1 and any((place / name).is_file() for name in _SAVED):
        found = datasets.load_from_disk(str(place))
        if isinstance(found, datasets.Dataset):
            found = {"train": found, str(found.split): found}
        if split not in found:
            raise ValueError(f"split={split!r} is not in {names[0]}; choose one of {[*found]}")
        return found[split]
    if len(names) == 1 and place.is_dir():
        return datasets.load_dataset(str(place), config, split=split, streaming=streaming)
    if len(names) == 1 and not _is_files(names[0]):
        # The cache of the hub, which is read offline, cannot be streamed.
        streaming = streaming and not datasets.config.HF_HUB_OFFLINE
        return datasets.load_dataset(names[0], config, split=split, streaming=streaming)
    files = [file for name in names for file in _files(name)]
    kinds = {_suffix(file) for file in files}
    if len(kinds) > 1 or not kinds <= set(_READERS):
        raise ValueError(
            f"dataset has files of the kinds {sorted(kinds)}; give files of one kind out of "
            f"{', '.join(_READERS)}, also with {', '.join(_COMPRESSED)} behind"
        )
    reader, options = _READERS[kinds.pop()]
    escaped = [glob.escape(str(file.resolve())) for file in files]
    return datasets.load_dataset(
        reader, data_files=escaped, split=split, streaming=streaming, **options
    )


def column_of(data: Any, field: str, given: str | None, usual: Sequence[str]) -> str:
    """The column that is given, or else the first of the usual names that the dataset has.

    Args:
        field: name of the flag, for the error.

    Raises:
        ValueError: if there is no such column; lists those that there are.
    """
    columns = data.column_names or list(next(iter(data)))
    for name in usual if given is None else [given]:
        if name in columns:
            return name
    raise ValueError(
        f"{field}={given!r} and the dataset has no column {given or ' or '.join(usual)}; write for "
        f"example --{field} {columns[0]}; the columns are {', '.join(columns)}"
    )


def _is_files(name: str) -> bool:
    """Whether a single name is a file or a pattern, and not a hub id."""
    path = Path(name).expanduser()
    return path.is_file() or glob.has_magic(name) or _suffix(path) in _READERS


def _files(name: str) -> list[Path]:
    path = Path(name).expanduser()
    matches = [path] if path.is_file() else sorted(map(Path, glob.glob(str(path), recursive=True)))
    if not (files := [match for match in matches if match.is_file()]):
        raise ValueError(
            f"dataset={name!r}: no such file; give files, a pattern such as 'texts/*.jsonl', a "
            "folder, or the id of a dataset on the hub, such as 'stanfordnlp/imdb'"
        )
    return files


def _suffix(file: Path) -> str:
    """The suffix in lower case, without that of a compression."""
    suffixes = [each for each in file.suffixes[-2:] if each not in _COMPRESSED]
    return suffixes[-1].lower() if suffixes else ""
