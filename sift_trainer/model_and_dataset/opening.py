"""A dataset from the hub, local files, a folder, or what ``save_to_disk`` wrote.

All of it is read by `datasets`, from data files alone: what needs code to load is refused there.
"""

import glob
import re
from pathlib import Path
from typing import Any

from sift_trainer.model_and_dataset.arguments import ModelAndDataset

_READERS = {
    ".txt": "text",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
_COMPRESSED = (".gz", ".xz", ".bz2", ".zst")
_SAVED = ("state.json", "dataset_dict.json")  # by which save_to_disk marks its folders
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def require_datasets() -> None:
    """Raise `ImportError` that names the extra where `datasets` is missing."""
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'reading a dataset needs datasets: pip install "sift-trainer[data]"'
        ) from error


def check_dataset(source: ModelAndDataset) -> None:
    """Raise `ValueError` for files that are not there, or are of no kind that can be read."""
    if _local_folder(source) is None and not _is_hub_id(source.dataset):
        _files(source.dataset)


def open_dataset(source: ModelAndDataset, streaming: bool) -> Any:
    """The split, as a `datasets.Dataset` or `datasets.IterableDataset`.

    Args:
        streaming: read rows when they are asked for, instead of all of them into the cache of
            `datasets`; what is on the disk already as `datasets` has it is not streamed.

    Raises:
        ValueError: if it cannot be read, has no such split, or has no rows.
        ConnectionError: if the hub cannot be reached.
    """
    try:
        data = _opened(source, streaming)
        if next(iter(data.take(1)), None) is not None if is_streamed(data) else len(data) > 0:
            return data
    except ConnectionError as error:
        raise ConnectionError(
            f"dataset={' '.join(source.dataset)} is neither a file nor a folder here, and the hub "
            f"cannot be reached: {error}"
        ) from error
    except StopIteration:  # of an empty file of JSON lines
        pass
    except Exception as error:  # readers and decompressors raise what they like
        why = error.__cause__ or error
        raise ValueError(
            f"dataset={' '.join(source.dataset)} with split={source.split!r} cannot be read: "
            f"{why or type(why).__name__}"
        ) from error
    raise ValueError(
        f"dataset={' '.join(source.dataset)} has no rows in split={source.split!r}; give one with "
        "rows"
    )


def is_streamed(data: Any) -> bool:
    """Whether it is read row after row, and nobody knows how many there are."""
    return not hasattr(data, "__len__")


def _opened(source: ModelAndDataset, streaming: bool) -> Any:
    import datasets

    folder = _local_folder(source)
    if folder is not None and any((folder / name).is_file() for name in _SAVED):
        return _saved(folder, source.split)
    how: dict[str, Any] = {"split": source.split, "streaming": streaming}
    if folder is not None:
        return datasets.load_dataset(str(folder), source.dataset_config, **how)
    if not _is_hub_id(source.dataset):
        files = _files(source.dataset)
        if Path(files[0]).suffixes[-2:][0] == ".tsv":
            how["sep"] = "\t"
        # The pattern characters of a name are its own here, not a glob's.
        return datasets.load_dataset(
            _reader(Path(files[0])), data_files=[glob.escape(file) for file in files], **how
        )
    if datasets.config.HF_HUB_OFFLINE:
        how["streaming"] = False  # from the cache, which cannot be streamed
    return datasets.load_dataset(source.dataset[0], source.dataset_config, **how)


def _saved(folder: Path, split: str) -> Any:
    from datasets import Dataset, load_from_disk

    found = load_from_disk(str(folder))
    if isinstance(found, Dataset):
        if split not in ("train", str(found.split)):
            raise ValueError(f"the folder holds a single dataset (split {found.split})")
        return found
    if split not in found:
        raise ValueError(f"there is {', '.join(found)}")
    return found[split]


def _local_folder(source: ModelAndDataset) -> Path | None:
    folder = Path(source.dataset[0]).expanduser()
    return folder if len(source.dataset) == 1 and folder.is_dir() else None


def _is_hub_id(names: list[str]) -> bool:
    name = names[0]
    return (
        len(names) == 1
        and _HUB_ID.fullmatch(name) is not None
        and _reader(Path(name)) is None
        and not Path(name).is_file()
    )


def _files(patterns: list[str]) -> list[str]:
    """Absolute paths, all of one kind."""
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern).expanduser()
        matches = [path] if path.is_file() else [*map(Path, glob.glob(str(path), recursive=True))]
        matches = [match for match in matches if match.is_file()]
        if not matches:
            raise ValueError(
                f"dataset={pattern!r}: no such file; give files, a pattern such as 'texts/*.jsonl',"
                " a folder, or the id of a dataset on the hub, such as 'stanfordnlp/imdb'"
            )
        found += sorted(matches)
    for path in found:
        if _reader(path) is None:
            raise ValueError(
                f"dataset={str(path)!r}: files must be {', '.join(_READERS)}, also with "
                f"{', '.join(_COMPRESSED)} behind"
            )
    kinds = sorted({_kind(path) for path in found})
    if len(kinds) > 1:
        raise ValueError(f"dataset has files of several kinds ({', '.join(kinds)}); give one kind")
    return [str(path.resolve()) for path in found]


def _kind(path: Path) -> str:
    suffixes = [suffix for suffix in path.suffixes[-2:] if suffix not in _COMPRESSED]
    return suffixes[-1].lower() if suffixes else ""


def _reader(path: Path) -> str | None:
    return _READERS.get(_kind(path))
