"""Shards: which documents one has, and its files on disk.

The hash of a document decides its split, its shard and its place in the shard. So the result
depends neither on the order of the files nor on the number of processes, documents of all sources
are mixed, and equal documents are in the same shard, where they are kept once.
"""

import json
import os
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets
from tokenizers import Tokenizer

from sift_trainer.checkpoints.whole_files import write_json
from sift_trainer.reproduction.corpus.sentence_pairs import Pair

_SPOOL_BYTES = 32_000_000  # of text that a process holds before it writes
_SPOOL = pa.schema({"shard": pa.int32(), "digest": pa.binary(16), "text": pa.string()})
_BATCH_ROWS = 1000


class Shards(NamedTuple):
    """The number of shards; the first ``train`` are for training, the others for validation."""

    train: int
    validation: int
    validation_fraction: float
    seed: int

    def __len__(self) -> int:
        return self.train + self.validation

    def of(self, text: bytes) -> tuple[int, bytes]:
        """The shard of a document, and the digest that orders it there.

        The split depends on the text and the fraction alone, not on the seed: whatever else is
        changed, no document of one preparation's validation is trained on in another.
        """
        digest = blake2b(text, digest_size=16, salt=self.seed.to_bytes(8, "big")).digest()
        drawn = int.from_bytes(digest[:4], "big")
        split = int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
        if split < self.validation_fraction * 2**64:
            return self.train + drawn % self.validation, digest
        return drawn % self.train, digest

    def path(self, folder: Path, shard: int) -> Path:
        """The Arrow file of a shard, such as ``train/00003.arrow``."""
        if shard < self.train:
            return folder / "train" / f"{shard:05}.arrow"
        return folder / "validation" / f"{shard - self.train:05}.arrow"


def spool(documents: Iterable[str], shards: Shards, wanted: Collection[int], path: Path) -> None:
    """Writes the documents of the `wanted` shards to an Arrow file, sorted by shard in batches."""
    held: list[dict[str, Any]] = []
    size = 0
    with _arrow_file(path, _SPOOL) as writer:
        for document in chain(documents, [None]):
            if document is None or size >= _SPOOL_BYTES:
                held.sort(key=itemgetter("shard"))
                writer.write_batch(pa.RecordBatch.from_pylist(held, _SPOOL))
                held, size = [], 0
            text = (document or "").encode("utf-8", "replace")
            shard, digest = shards.of(text)
            if shard in wanted:
                held.append({"shard": shard, "digest": digest, "text": text})
                size += len(text)


def spooled(paths: Iterable[Path], shard: int) -> list[str]:
    """The documents of a shard, each once, by their digest."""
    found: dict[bytes, str] = {}
    for path in paths:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_stream(file).read_all()
            rows = table.filter(pc.equal(table["shard"], shard)).to_pylist()
        found.update({row["digest"]: row["text"] for row in rows})
    return [found[digest] for digest in sorted(found)]


def write_shard(
    path: Path, pairs: Iterable[Pair], tokenizer: Tokenizer, record: dict[str, Any]
) -> None:
    """Writes the pairs of a shard as an Arrow file, then `record` as a JSON file beside it.

    A row is ``[CLS] A [SEP] B [SEP]``: `input_ids` and `token_type_ids` (0 up to the first
    ``[SEP]``, then 1) of equal length, and `next_sentence_label`, 0 if B follows A and 1 if B is
    random. A shard is whole when its record is there.
    """
    token = pa.uint16() if tokenizer.get_vocab_size() <= 2**16 else pa.int32()
    schema = pa.schema(
        {
            "input_ids": pa.list_(token),
            "token_type_ids": pa.list_(pa.uint8()),
            "next_sentence_label": pa.uint8(),
        }
    )
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    rows = (
        {
            "input_ids": [cls, *pair.first, sep, *pair.second, sep],
            "token_type_ids": [0] * (len(pair.first) + 2) + [1] * (len(pair.second) + 1),
            "next_sentence_label": int(pair.is_random),
        }
        for pair in pairs
    )
    count = 0
    with _arrow_file(path, schema) as writer:
        while batch := list(islice(rows, _BATCH_ROWS)):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))
            count += len(batch)
    crc32 = zlib.crc32(path.read_bytes())
    write_json(path.with_suffix(".json"), {**record, "rows": count, "crc32": crc32})


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of a shard; None if the shard is not whole."""
    record = path.with_suffix(".json")
    return dict(json.loads(record.read_text())) if record.is_file() and path.is_file() else None


def open_shards(paths: Sequence[Path], checksums: bool = True) -> Dataset:
    """All rows of whole shards, memory-mapped, in order.

    Raises:
        ValueError: with `checksums`, a file is not what was written; the message names it.
    """
    for path in paths if checksums else ():
        record = read_record(path)
        if record is None or zlib.crc32(path.read_bytes()) != record["crc32"]:
            raise ValueError(
                f"{path} is corrupt: its checksum is not the one in {path.stem}.json; delete both "
                "and prepare the corpus again, which writes only them"
            )
    return concatenate_datasets([Dataset.from_file(str(path)) for path in paths])


@contextmanager
def _arrow_file(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatchStreamWriter]:
    """A writer of a file that gets its name when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            yield writer
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
