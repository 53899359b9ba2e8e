"""Pairs on disk: Arrow files with a record of what is in each, and the data set that reads them."""

import json
import os
import zlib
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch.utils.data

from sift_trainer.checkpoints.whole_files import write_json
from sift_trainer.data.text.sentence_pairs import Pair

if TYPE_CHECKING:
    from datasets import Dataset

_BATCH_ROWS = 1000
_BLOCK = 1 << 22


class PairArrays(NamedTuple):
    """Pairs in flat arrays, special tokens included; row i: ``tokens[offsets[i]:offsets[i + 1]]``.

    Attributes:
        tokens: uint16, or int32 for vocabularies above 65,536.
        offsets: int32, (rows + 1,).
        first_lengths: int32, (rows,): tokens of ``[CLS] A [SEP]``.
        is_random: bool, (rows,): B is from another document.
    """

    tokens: np.ndarray[Any, Any]
    offsets: np.ndarray[Any, Any]
    first_lengths: np.ndarray[Any, Any]
    is_random: np.ndarray[Any, Any]


def pair_arrays(pairs: Iterable[Pair], *, cls_id: int, sep_id: int, vocab_size: int) -> PairArrays:
    """All `pairs` with their special tokens put in; 2 bytes per token, or 4."""
    tokens = array("H" if vocab_size <= 2**16 else "i")
    offsets, first_lengths, is_random = array("i", [0]), array("i"), array("b")
    for pair in pairs:
        tokens.extend([cls_id, *pair.first, sep_id, *pair.second, sep_id])
        offsets.append(len(tokens))
        first_lengths.append(len(pair.first) + 2)
        is_random.append(pair.is_random)
    return PairArrays(
        np.array(tokens),
        np.array(offsets),
        np.array(first_lengths),
        np.array(is_random, dtype=bool),
    )


class PairDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Pairs as training takes them; a row is ``[CLS] A [SEP] B [SEP]``, unpadded, in Python lists.

    ``dataset[i]`` has `input_ids` and `token_type_ids` (0 up to and with the first ``[SEP]``, then
    1) of equal length, and `next_sentence_label`: 0 if B follows A, 1 if B is random.

    Args:
        rows: what `open_shards` returns.
    """

    def __init__(self, rows: "Dataset") -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return _row(self.rows[range(len(self))[index]])  # IndexError beyond the end

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Many rows at once, as the dataloader asks for them."""
        columns = self.rows[list(indices)]
        rows = zip(*columns.values(), strict=True)
        return [_row(dict(zip(columns, row, strict=True))) for row in rows]


def _row(stored: dict[str, Any]) -> dict[str, Any]:
    length, first = len(stored["input_ids"]), stored["first_length"]
    return {
        "input_ids": stored["input_ids"],
        "token_type_ids": [0] * first + [1] * (length - first),
        "next_sentence_label": int(stored["is_random"]),
    }


def write_shard(path: Path, pairs: PairArrays, record: dict[str, Any]) -> None:
    """Writes ``path.arrow``, then ``path.json``: `record` with rows, bytes and checksum.

    With the record a shard is whole; what is written before it is never read.
    """
    import pyarrow as pa

    columns = {
        "input_ids": pa.ListArray.from_arrays(pa.array(pairs.offsets), pa.array(pairs.tokens)),
        "first_length": pa.array(pairs.first_lengths),
        "is_random": pa.array(pairs.is_random),
    }
    table = pa.table(columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = Path(f"{path}.arrow")
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
            out.write_table(table, max_chunksize=_BATCH_ROWS)
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
    whole = {"rows": len(table), "bytes": file.stat().st_size, "crc32": _checksum(file)}
    write_json(Path(f"{path}.json"), {**record, **whole})


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of a shard; None if the shard is not whole."""
    record = Path(f"{path}.json")
    if not record.is_file():
        return None
    content: dict[str, Any] = json.loads(record.read_text())
    return content


def open_shards(paths: Sequence[Path], checksums: bool = True) -> "Dataset":
    """All rows of the shards, memory-mapped, in order.

    Args:
        paths: without suffix.
        checksums: read every byte once and compare, at about a gigabyte a second; without it only
            sizes and structure are checked.

    Raises:
        ValueError: naming the file that is missing, or is not what was written.
    """
    from datasets import Dataset, concatenate_datasets

    parts = []
    for path in paths:
        record, file = read_record(path), Path(f"{path}.arrow")
        if record is None or not file.is_file():
            raise ValueError(f"{file} is missing; prepare the corpus again, which makes only it")
        if file.stat().st_size != record["bytes"] or (
            checksums and _checksum(file) != record["crc32"]
        ):
            raise ValueError(
                f"{file} is corrupt: it is not what its record {path.name}.json describes; delete "
                "both and prepare the corpus again, which makes only them"
            )
        try:
            parts.append(Dataset.from_file(str(file)))
        except Exception as error:  # pyarrow and datasets raise many kinds
            raise ValueError(f"{file} cannot be read: {error}") from error
    return concatenate_datasets([part for part in parts if len(part)] or parts[:1])


def _checksum(file: Path) -> int:
    value = 0
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            value = zlib.crc32(block, value)
    return value
