"""Where documents come from: files, data sets on the Hugging Face hub, docstrings.

No code from elsewhere is run: `datasets` refuses data sets with a loading script, and of files only
text, JSON lines and Parquet are read.
"""

import glob
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from datasets import IterableDataset, load_dataset

from sift_trainer.reproduction.corpus.documentation import documentation, installed_packages

_COMPRESSED = (".gz", ".xz", ".bz2", ".zst")
_BUILDERS = {".txt": "text", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}


class Sources(dict[str, Any]):
    """Name -> settings of a `Source`: a mapping, or its JSON from the command line."""

    def __init__(self, content: Any = ()) -> None:
        super().__init__(json.loads(content) if isinstance(content, str) else content)


@dataclass(frozen=True)
class Source:
    """One entry of ``sources``; exactly one of `files`, `hub` and `documentation` is given."""

    files: str | list[str] | None = None  # paths, folders or glob patterns
    hub: str | None = None  # id of a data set on the Hugging Face hub
    documentation: bool = False  # the docstrings of installed packages
    name: str | None = None  # configuration on the hub, such as 20231101.en
    split: str = "train"  # on the hub
    revision: str | None = None  # branch, tag or commit on the hub
    column: str = "text"  # with the texts; text files have the column "text"
    rows_per_document: int = 1  # for data sets whose rows are sentences (the BookCorpus mirrors)
    wrapped: bool = False  # lines have a fixed width: only empty lines end a paragraph

    def __post_init__(self) -> None:
        if sum(bool(kind) for kind in (self.files, self.hub, self.documentation)) != 1:
            raise ValueError(
                "needs exactly one of files, hub and documentation, such as {files: texts/*.txt}"
            )
        if self.rows_per_document < 1:
            raise ValueError(f"rows_per_document={self.rows_per_document}: must be 1 or more")
        for name in ("documentation", "wrapped"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r}: must be true or false")

    def identity(self) -> Any:
        """What is read under these settings: names and sizes of files, or package versions."""
        if self.documentation:
            return installed_packages()
        if self.files is None:
            return self.revision
        return [[path.name, path.stat().st_size] for path in _paths(self.files)]


class Part(NamedTuple):
    """A part of a source that one process reads, such as a file; `open` gives its rows."""

    source: Source
    name: str
    open: Callable[[], IterableDataset]


def read_sources(entries: Any) -> dict[str, Source]:
    """The sources by name, from a mapping of names to settings.

    Raises:
        ValueError: an entry cannot work; the message names it.
    """
    if not entries:
        raise ValueError("sources={}: give at least one, such as {mine: {files: texts/*.txt}}")
    sources = {}
    for name, entry in entries.items():
        try:
            sources[name] = Source(**entry)
        except (TypeError, ValueError) as error:
            raise ValueError(f"sources.{name}: {error}") from error
    return sources


def parts(source: Source) -> list[Part]:
    """The parts of a source, always in the same order.

    Raises:
        ValueError: no file matches, or one cannot be read.
    """
    if source.documentation:
        docstrings = partial(IterableDataset.from_generator, _docstrings)
        return [Part(source, "documentation", docstrings)]
    if source.files is not None:
        paths = _paths(source.files)
        return [Part(source, str(path), partial(_file, path)) for path in paths]
    data = _hub(source)
    return [
        Part(source, f"{source.hub}, part {number}", partial(data.shard, data.num_shards, number))
        for number in range(data.num_shards)
    ]


def text_bytes(source: Source) -> float | None:
    """About how many bytes of text a source has; None if that is unknown before it is read."""
    if source.documentation:
        return 16e6
    if source.files is not None:
        return sum(path.stat().st_size * _expansion(path) for path in _paths(source.files))
    info = _hub(source).info
    size: int | None = info.dataset_size or info.download_size
    return size


def documents(part: Part) -> Iterator[str]:
    """The documents of a part, in order. Memory does not grow with the part.

    Raises:
        ValueError: the part cannot be read, or has no such column of texts.
    """
    source = part.source
    try:
        for rows in part.open().iter(batch_size=source.rows_per_document):
            text = "\n".join(rows[source.column])
            yield _unwrapped(text) if source.wrapped else text
    except Exception as error:  # builders and decompressors raise errors of many types
        raise ValueError(
            f"{part.name} cannot be read (column={source.column!r}): {error!r}"
        ) from error


def _docstrings() -> Iterator[dict[str, str]]:
    for text in documentation():
        yield {"text": text}


def _file(path: Path) -> IterableDataset:
    """The rows of one file. Files that are opened together would need the same columns."""
    builder = _builder(path)
    options = {"sample_by": "document"} if builder == "text" else {}
    file = glob.escape(str(path.resolve()))
    return load_dataset(builder, data_files=[file], split="train", streaming=True, **options)


def _hub(source: Source) -> IterableDataset:
    given = {"split": source.split, "revision": source.revision}
    try:
        return load_dataset(source.hub, source.name, streaming=True, **given)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"hub={source.hub!r} cannot be loaded: {error}\nWithout a network, give its files: "
            "sources: {mine: {files: folder/*.parquet}}"
        ) from error


def _paths(patterns: str | list[str]) -> list[Path]:
    """The files that can be read; those of a pattern in the order of their names."""
    paths: list[Path] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        path = Path(pattern).expanduser()
        found = (
            path.rglob("*") if path.is_dir() else map(Path, glob.glob(str(path), recursive=True))
        )
        readable = sorted(file for file in found if _builder(file) and file.is_file())
        if not readable:
            raise ValueError(f"files={pattern!r}: no file ends in {', '.join(_BUILDERS)} there")
        paths += readable
    return paths


def _builder(path: Path) -> str | None:
    suffixes = [suffix for suffix in path.suffixes[-2:] if suffix not in _COMPRESSED]
    return _BUILDERS.get(suffixes[-1]) if suffixes else None


def _expansion(path: Path) -> float:
    """About how many bytes of text a byte of the file gives."""
    if path.suffix in _COMPRESSED:
        return 4.0
    return 2.0 if path.suffix == ".parquet" else 1.0


def _unwrapped(text: str) -> str:
    paragraphs = "\n".join(line.strip() for line in text.splitlines()).split("\n\n")
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())
