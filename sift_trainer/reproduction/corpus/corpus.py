"""The settings that decide every row of a prepared corpus, and opening it."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from sift_trainer.reproduction.corpus.sentence_pairs import MIN_LENGTH
from sift_trainer.reproduction.corpus.shards import Shards, open_shards, read_record
from sift_trainer.reproduction.corpus.sources import Sources, read_sources
from sift_trainer.reproduction.corpus.vocabulary import load_wordpiece

FORMAT = 4  # raise it when the same settings give other rows, or the same rows in other files
TRAIN = "train"  # as the tokenizer: make a vocabulary from the corpus
VOCAB_SIZE = 8192  # of such a vocabulary, by default
_PLACES = ("data_dir", "cache_dir", "shards")  # where and how it is kept decides no row


def default_cache_dir() -> str:
    """Where prepared corpora are kept: `$XDG_CACHE_HOME/sift_trainer`, or `~/.cache/...`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(home) / "sift_trainer")


@dataclass
class CorpusArguments:
    """Which text becomes which sentence pairs (Devlin et al., 2019, appendix A.2).

    Raises:
        ValueError: at construction, naming the field, its value and what it accepts.
    """

    sources: Sources = field(
        default_factory=lambda: Sources({"documentation": {"documentation": True}}),
        metadata={"help": "Name -> what to read: {files: ...}, {hub: ...}, {documentation: true}."},
    )
    tokenizer: str = field(
        default=TRAIN,
        metadata={"help": "Folder or hub id of a BERT tokenizer; train: make one from the corpus."},
    )
    vocab_size: int | None = field(
        default=None,
        metadata={"help": "Word pieces; of a tokenizer that is made here 8192 if unset."},
    )
    max_length: int = field(
        default=128, metadata={"help": "Longest row in tokens, the three special ones included."}
    )
    short_fraction: float = field(
        default=0.1, metadata={"help": "Share of documents that are packed to a random length."}
    )
    validation_fraction: float = field(
        default=0.005, metadata={"help": "Share of documents kept for validation, by their hash."}
    )
    corpus_seed: int = field(default=0, metadata={"help": "Of order and pairs, not of the split."})
    shards: int | None = field(
        default=None,
        metadata={"help": "Files of training rows; unset: one per 16 MB of text, for the memory."},
    )
    data_dir: str | None = field(
        default=None,
        metadata={"help": "Folder of the prepared corpus; unset: one of its own in cache_dir."},
    )
    cache_dir: str = field(
        default_factory=default_cache_dir, metadata={"help": "Where unnamed corpora are kept."}
    )

    def __post_init__(self) -> None:
        read_sources(self.sources)
        allowed = {
            "max_length": (self.max_length >= MIN_LENGTH, f"{MIN_LENGTH} or more, such as 128"),
            "short_fraction": (0 <= self.short_fraction <= 1, "in [0, 1], such as 0.1"),
            "validation_fraction": (0 < self.validation_fraction < 1, "in (0, 1), such as 0.02"),
            "shards": (self.shards is None or self.shards >= 1, "1 or more, such as 64"),
        }
        for name, (fits, expected) in allowed.items():
            if not fits:
                raise ValueError(f"{name}={getattr(self, name)} must be {expected}")


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus. The rows of both splits are those of `shards.write_shard`.

    Attributes:
        statistics: counts of rows, documents, word pieces and so on, by split.
    """

    tokenizer: PreTrainedTokenizerFast
    train: Dataset
    validation: Dataset
    statistics: dict[str, Any]


def settings_of(args: CorpusArguments) -> dict[str, Any]:
    """The settings that decide rows, as plain data."""
    plain = {item.name: getattr(args, item.name) for item in fields(args)}
    sources = read_sources(plain.pop("sources"))
    kept = {name: value for name, value in plain.items() if name not in _PLACES}
    if args.tokenizer == TRAIN:
        kept["vocab_size"] = args.vocab_size or VOCAB_SIZE
    else:
        del kept["vocab_size"]
    return {"sources": {name: asdict(source) for name, source in sources.items()}, **kept}


def made_of(args: CorpusArguments) -> dict[str, Any]:
    """What two preparations must have in common to be parts of one corpus."""
    return {
        "format": FORMAT,
        **settings_of(args),
        "read": {name: source.identity() for name, source in read_sources(args.sources).items()},
        "sentencex": version("sentencex"),
    }


def folder_of(args: CorpusArguments) -> Path:
    """`data_dir`, or the folder in `cache_dir` that belongs to these settings and sources."""
    if args.data_dir is not None:
        return Path(args.data_dir)
    text = json.dumps([made_of(args), args.shards], sort_keys=True)
    return Path(args.cache_dir) / blake2b(text.encode(), digest_size=8).hexdigest()


def load_corpus(args: CorpusArguments, checksums: bool = True) -> Corpus:
    """The corpus that was prepared with these settings.

    Args:
        checksums: compare every byte with what was written; one process of a machine is enough.

    Raises:
        ValueError: there is no corpus, or it is unfinished, corrupt or of other settings.
    """
    folder = folder_of(args)
    manifest = read_manifest(folder)
    if manifest is None:
        raise ValueError(
            f"data_dir={str(folder)!r}: there is no prepared corpus; make it with "
            "scripts/prepare_corpus.py and the same --config, or set prepare: true"
        )
    check_same(folder, manifest, {"format": FORMAT, **settings_of(args)})
    shards = Shards(*manifest["shards"])
    paths = [shards.path(folder, shard) for shard in range(len(shards))]
    records = {path: record for path in paths if (record := read_record(path)) is not None}
    if len(records) < len(paths):
        raise ValueError(
            f"data_dir={str(folder)!r}: {len(paths) - len(records)} of {len(paths)} shards are "
            "missing; run scripts/prepare_corpus.py again, which makes only them"
        )
    tokenizer = load_wordpiece(str(folder / "tokenizer"))
    counts: Counter[str] = Counter()
    for path, record in records.items():
        del record["crc32"]
        counts.update({f"{path.parent.name}_{name}": value for name, value in record.items()})
    return Corpus(
        tokenizer,
        open_shards(paths[: shards.train], checksums),
        open_shards(paths[shards.train :], checksums),
        {"vocab_size": len(tokenizer), "shards": len(shards), **counts},
    )


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What the preparation in `folder` began with; None if there is none."""
    file = folder / "manifest.json"
    return dict(json.loads(file.read_text())) if file.is_file() else None


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses a corpus that was prepared with other settings or from other files."""
    changed = "".join(
        f"\n  {name}: prepared with {before.get(name)!s:.200}, asked for {value!s:.200}"
        for name, value in now.items()
        if before.get(name) != value
    )
    if changed:
        raise ValueError(
            f"data_dir={str(folder)!r} was prepared with other settings:{changed}\n"
            "Use its settings, or prepare these in another data_dir"
        )
