"""Documents on their way from sources to shards, sorted by a hash of their text.

The hash of a document decides everything that happens to it: its split, its shard, and its place in
the shard. So neither the order of the files nor the number of processes that read them changes the
result, documents of all sources are mixed, and equal documents meet and are kept once.

A unit of a source becomes files of a few dozen megabytes, in each of which the documents of a shard
lie next to each other, so that one shard can be collected without reading the others.
"""

import json
import struct
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from sift_trainer.checkpoints.whole_files import write_json

_ROUND_BYTES = 32_000_000  # text that a process holds before it writes
_HEAD = struct.Struct(">16sHI")  # digest, number of the source, bytes of text


class Shards(NamedTuple):
    """How many shards there are. Shard i is of training for ``i < train``, else of validation."""

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

    def name(self, shard: int) -> str:
        """Path of a shard in its folder, without suffix: ``train/00003``."""
        if shard < self.train:
            return f"train/{shard:05}"
        return f"validation/{shard - self.train:05}"


class Document(NamedTuple):
    """What is read back from a spool."""

    digest: bytes
    source: int
    text: str


def spool(
    documents: Iterable[str], source: int, shards: Shards, wanted: Collection[int], path: Path
) -> None:
    """Writes the documents whose shard is `wanted` to ``path-0``, ``path-1``, ... and an index.

    The index, ``path.json``, is written last: with it a unit is whole.
    """
    rounds: list[dict[str, tuple[int, int]]] = []
    held: defaultdict[int, list[bytes]] = defaultdict(list)
    size = 0

    def write() -> None:
        index, offset = {}, 0
        with Path(f"{path}-{len(rounds)}").open("wb") as file:
            for shard, records in sorted(held.items()):
                index[str(shard)] = offset, sum(map(len, records))
                offset += index[str(shard)][1]
                file.writelines(records)
        rounds.append(index)
        held.clear()

    for document in documents:
        text = document.encode("utf-8", "replace")
        shard, digest = shards.of(text)
        if shard not in wanted:
            continue
        held[shard].append(_HEAD.pack(digest, source, len(text)) + text)
        size += len(text)
        if size >= _ROUND_BYTES:
            write()
            size = 0
    write()
    write_json(Path(f"{path}.json"), rounds)


def spooled(paths: Iterable[Path], shard: int) -> Iterator[Document]:
    """The documents of one shard from the spools of all units, as they lie there."""
    for path in paths:
        for number, index in enumerate(json.loads(Path(f"{path}.json").read_text())):
            if str(shard) not in index:
                continue
            offset, size = index[str(shard)]
            with Path(f"{path}-{number}").open("rb") as file:
                file.seek(offset)
                records = file.read(size)
            yield from _parsed(records)


def _parsed(records: bytes) -> Iterator[Document]:
    start = 0
    while start < len(records):
        digest, source, size = _HEAD.unpack_from(records, start)
        start += _HEAD.size
        yield Document(digest, source, records[start : start + size].decode())
        start += size
