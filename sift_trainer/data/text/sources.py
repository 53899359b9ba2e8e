"""Where documents come from: hub datasets, local files, the embedded documentation corpus.

A source is cut into units, such as its files, which are read one after another and independently of
each other. Nothing that comes from elsewhere runs code: hub data sets with a loading script, and
files that are not text, JSON lines or Parquet, are refused.
"""

import glob
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sift_trainer.data.text.documentation import documentation, installed_packages

if TYPE_CHECKING:
    from datasets import IterableDataset

_COMPRESSED = (".gz", ".xz", ".bz2", ".zst")
_READERS = {".txt": "text", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}
# Bytes of text per byte of file, to choose the number of shards.
_EXPANSION = {"parquet": 2.0, "compressed": 4.0}
_DOCUMENTATION_BYTES = 16_000_000
_LARGEST_DOCUMENT = 256_000_000
_ROWS_AT_ONCE = 1000
_HUB_PARTS = 64  # of a data set that was downloaded first
_HUB_HELP = (
    "Where there is no network, download it elsewhere and give the files instead: "
    "sources: {mine: {files: folder/*.parquet}}"
)


class Sources(dict[str, Any]):
    """Name -> what to read, as YAML gives it or as a JSON string on the command line."""

    def __init__(self, content: Any = ()) -> None:
        if isinstance(content, str):
            try:
                content = json.loads(content)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f'sources={content!r} is no JSON; write \'{{"mine": '
                    '{"files": "texts/*.txt"}}\''
                ) from error
        super().__init__(content)


@dataclass(frozen=True)
class Unit:
    """A part of a source that one process reads from front to end.

    Attributes:
        source: name of the source.
        place: path of a file, or number of a part of a hub data set.
        size: about how many bytes of text it has; None if nobody knows.
    """

    source: str
    place: str
    size: float | None


@dataclass(frozen=True)
class Source:
    """One entry of ``sources``; exactly one of `files`, `hub` and `documentation` is given.

    Attributes:
        files: paths, folders or glob patterns of text, JSON lines or Parquet files; the first two
            may be compressed (gz, xz, bz2, zst).
        hub: id of a data set on the Hugging Face hub, which must not need code to load.
        name: its configuration, such as ``20231101.en``.
        split: its split.
        revision: branch, tag or commit, to fix what is read.
        streaming: read over the network as it is needed; false downloads first.
        documentation: docstrings of installed packages, which need no download.
        column: where JSON lines and Parquet have the text.
        rows_per_document: how many rows one after another make up a document, for data sets whose
            rows are sentences (the BookCorpus mirrors); 1 means that a row is a document.
        separator: of documents in text files: ``file`` (a file is one) or ``blank_line``.
        wrapped: lines are broken at a fixed width: only empty lines end a paragraph.
    """

    files: str | list[str] | None = None
    hub: str | None = None
    documentation: bool = False
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    streaming: bool = True
    column: str = "text"
    rows_per_document: int = 1
    separator: Literal["file", "blank_line"] = "file"
    wrapped: bool = False

    def __post_init__(self) -> None:
        kinds = ("files", "hub", "documentation")
        given = [key for key in kinds if getattr(self, key) not in (None, False)]
        if len(given) != 1:
            raise ValueError(
                f"needs exactly one of files, hub and documentation, and has {given or 'none'}; "
                "write {hub: wikimedia/wikipedia, name: 20231101.en} or {files: texts/*.txt}"
            )
        if type(self.rows_per_document) is not int or self.rows_per_document < 1:
            raise ValueError(f"rows_per_document={self.rows_per_document}: must be 1 or more")
        if self.separator not in ("file", "blank_line"):
            raise ValueError(f"separator={self.separator!r}: must be 'file' or 'blank_line'")
        for key in ("documentation", "streaming", "wrapped"):
            if not isinstance(getattr(self, key), bool):
                raise ValueError(f"{key}={getattr(self, key)!r}: must be true or false")

    def settings(self) -> dict[str, Any]:
        """What was set, as plain data, for a record or a comparison."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in values.items() if value != defaults[name]}

    def identity(self) -> Any:
        """What tells this source from another with the same settings: files with their sizes, or
        versions of packages."""
        if self.documentation:
            return installed_packages()
        if self.files is not None:
            return [[path.name, path.stat().st_size] for path in _found(self.files)]
        return {"hub": self.hub, "name": self.name, "revision": self.revision}


def read_sources(entries: Any) -> dict[str, Source]:
    """The sources that a mapping of names to mappings describes.

    Raises:
        ValueError: naming the entry, and what would work.
    """
    if not isinstance(entries, dict) or not entries:
        raise ValueError(
            f"sources={entries!r}: name at least one, such as sources: {{mine: {{files: a.txt}}}}"
        )
    known = [field.name for field in fields(Source)]
    sources = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise ValueError(f"sources.{name}={entry!r}: write a mapping, such as {{files: a.txt}}")
        for key in entry:
            if key not in known:
                raise ValueError(f"sources.{name}: unknown key {key!r}; there is {known}")
        try:
            sources[str(name)] = Source(**entry)
        except ValueError as error:
            raise ValueError(f"sources.{name}: {error}") from error
    return sources


def units(name: str, source: Source) -> list[Unit]:
    """The parts of a source, always in the same order.

    Raises:
        ValueError: no file matches, a file has an unknown kind, or the hub's data set cannot be
            loaded without code.
        ConnectionError: the hub cannot be reached.
    """
    if source.documentation:
        return [Unit(name, "installed packages", _DOCUMENTATION_BYTES)]
    if source.files is not None:
        return [_file_unit(name, source, path) for path in _found(source.files)]
    data = _hub(source)
    size = data.info.dataset_size or data.info.download_size
    count = data.num_shards
    return [Unit(name, str(i), size / count if size else None) for i in range(count)]


def documents(source: Source, unit: Unit, progress: bool = False) -> Iterator[str]:
    """The documents of one unit, in order; memory does not grow with the unit.

    Raises:
        ValueError: the file cannot be read as what its name says, or has no such column.
    """
    texts: Iterator[str]
    if source.documentation:
        texts = iter(documentation(progress))
    elif source.files is not None:
        texts = _rows(lambda: _file(source, Path(unit.place)), source, unit.place)
    else:
        texts = _rows(lambda: _hub_part(source, unit), source, f"{source.hub}, part {unit.place}")
    for text in _grouped(texts, source.rows_per_document):
        yield _unwrapped(text) if source.wrapped else text


def _found(patterns: str | list[str]) -> list[Path]:
    paths: list[Path] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            found = [inner for inner in path.rglob("*") if _reader(inner) and inner.is_file()]
        elif path.is_file():
            found = [path]
        else:
            found = [Path(match) for match in glob.glob(str(path), recursive=True)]
        if not found:
            raise ValueError(
                f"files={pattern!r}: nothing there; give a file, a folder with "
                f"{', '.join(_READERS)} files, or a pattern such as texts/*.jsonl.gz"
            )
        paths += sorted(found)
    for path in paths:
        if _reader(path) is None:
            raise ValueError(
                f"{path}: neither of {', '.join(_READERS)}, and only such files are read; "
                "text and JSON lines may be compressed (.gz, .xz, .bz2, .zst)"
            )
    return paths


def _reader(path: Path) -> str | None:
    suffixes = [suffix for suffix in path.suffixes[-2:] if suffix not in _COMPRESSED]
    return _READERS.get(suffixes[-1]) if suffixes else None


def _file_unit(name: str, source: Source, path: Path) -> Unit:
    size = _text_size(path)
    if _reader(path) == "text" and source.separator == "file" and size > _LARGEST_DOCUMENT:
        raise ValueError(
            f"{path}: one document of {size / 1e6:.0f} MB, which has to fit in memory; set "
            "separator: blank_line where empty lines separate its documents"
        )
    return Unit(name, str(path), size)


def _text_size(path: Path) -> float:
    size = path.stat().st_size
    if path.suffix in _COMPRESSED:
        return size * _EXPANSION["compressed"]
    return size * _EXPANSION.get(_reader(path) or "", 1.0)


def _file(source: Source, path: Path) -> "IterableDataset":
    from datasets import load_dataset

    reader = _reader(path)
    options = {}
    if reader == "text":
        options["sample_by"] = "document" if source.separator == "file" else "paragraph"
    # The pattern characters of a name are its own here, not a glob's.
    return load_dataset(
        reader,
        data_files=[glob.escape(str(path.resolve()))],
        split="train",
        streaming=True,
        **options,
    )


def _hub(source: Source) -> "IterableDataset":
    from datasets import load_dataset

    try:
        data = load_dataset(
            source.hub,
            source.name,
            split=source.split,
            revision=source.revision,
            streaming=source.streaming,
        )
    except (ConnectionError, OSError) as error:
        raise ConnectionError(
            f"hub={source.hub!r} cannot be reached: {error}\n{_HUB_HELP}"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"hub={source.hub!r} cannot be loaded: {error}\n{_HUB_HELP}") from error
    if source.streaming:
        return data
    return data.to_iterable_dataset(num_shards=min(_HUB_PARTS, len(data)))


def _hub_part(source: Source, unit: Unit) -> "IterableDataset":
    data = _hub(source)
    return data.shard(data.num_shards, int(unit.place))


def _rows(opened: "Callable[[], IterableDataset]", source: Source, place: str) -> Iterator[str]:
    column = source.column if source.files is None or not place.endswith(".txt") else "text"
    try:
        for table in opened().with_format("arrow").iter(batch_size=_ROWS_AT_ONCE):
            if column not in table.column_names:
                raise ValueError(
                    f"column={column!r} is not there; the rows have {table.column_names}"
                )
            for text in table[column].to_pylist():
                if not isinstance(text, str):
                    raise ValueError(f"column={column!r} holds {text!r:.60}, which is no text")
                yield text
    except Exception as error:  # readers and decompressors raise what they like
        raise ValueError(f"{place} cannot be read: {error}") from error


def _grouped(rows: Iterator[str], size: int) -> Iterator[str]:
    if size == 1:
        yield from rows
        return
    group: list[str] = []
    for row in rows:
        group.append(row)
        if len(group) == size:
            yield "\n".join(group)
            group = []
    if group:
        yield "\n".join(group)


def _unwrapped(text: str) -> str:
    paragraphs = "\n".join(line.strip() for line in text.splitlines()).split("\n\n")
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())
