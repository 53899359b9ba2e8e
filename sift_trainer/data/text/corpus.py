"""The settings that decide every row of a prepared corpus, and reading one back."""

import json
import os
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sift_trainer.data.text.sentence_pairs import MIN_LENGTH
from sift_trainer.data.text.shards import PairDataset, open_shards, read_record
from sift_trainer.data.text.sources import Sources, read_sources
from sift_trainer.data.text.spool import Shards

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FORMAT = 3  # raise it when the same settings would give other rows
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
    random_next_fraction: float = field(
        default=0.5, metadata={"help": "Share of pairs whose B is drawn from another document."}
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
        if self.max_length < MIN_LENGTH:
            raise ValueError(
                f"max_length={self.max_length} must be {MIN_LENGTH} or more, such as 128"
            )
        for name in ("short_fraction", "random_next_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in [0, 1], such as 0.5")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} must be in (0, 1), such as 0.02"
            )
        if not 0 <= self.corpus_seed < 2**63:
            raise ValueError(f"corpus_seed={self.corpus_seed} must not be negative, such as 0")
        if self.shards is not None and self.shards < 1:
            raise ValueError(f"shards={self.shards} must be 1 or more, such as 64")


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus: tokenizer, next-sentence pairs of both splits, and what went into them."""

    tokenizer: "PreTrainedTokenizerFast"
    train: PairDataset
    validation: PairDataset
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
    return {"sources": {name: source.settings() for name, source in sources.items()}, **kept}


def made_of(args: CorpusArguments) -> dict[str, Any]:
    """What has to be equal for two preparations to be parts of one: settings, files, versions."""
    try:
        sentencex = version("sentencex")
    except PackageNotFoundError as error:
        raise ImportError(
            'preparing a corpus needs sentencex: pip install "sift-trainer[data]"'
        ) from error
    return {
        "format": FORMAT,
        "settings": settings_of(args),
        "sources": {name: source.identity() for name, source in read_sources(args.sources).items()},
        "sentencex": sentencex,
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
        ValueError: there is none, it is unfinished or corrupt, or it was prepared with other
            settings; says which, and what to do.
    """
    from sift_trainer.data.text.vocabulary import load_wordpiece

    folder = folder_of(args)
    manifest = read_manifest(folder)
    if manifest is None:
        raise ValueError(
            f"data_dir={str(folder)!r}: there is no prepared corpus; make it with "
            "scripts/prepare_corpus.py and the same --config, or set prepare: true"
        )
    check_settings(args, manifest, folder)
    shards = Shards(*manifest["shards"])
    paths = [folder / shards.name(shard) for shard in range(len(shards))]
    records = [read_record(path) for path in paths]
    missing = [path for path, record in zip(paths, records, strict=True) if record is None]
    if missing:
        raise ValueError(
            f"data_dir={str(folder)!r}: {len(missing)} of {len(paths)} shards are not there yet, "
            f"such as {missing[0]}.arrow; run scripts/prepare_corpus.py again, which goes on where "
            "it stopped"
        )
    tokenizer = load_wordpiece(str(folder / "tokenizer"))
    if args.vocab_size not in (None, len(tokenizer)):
        raise ValueError(
            f"vocab_size={args.vocab_size}: tokenizer={args.tokenizer!r} has {len(tokenizer)} word "
            "pieces; set that, or leave vocab_size out"
        )
    return Corpus(
        tokenizer,
        PairDataset(open_shards(paths[: shards.train], checksums)),
        PairDataset(open_shards(paths[shards.train :], checksums)),
        {"vocab_size": len(tokenizer), **statistics_of(shards, records)},
    )


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What `folder` was begun with; None if nothing was."""
    file = folder / "manifest.json"
    if not file.is_file():
        return None
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def check_settings(args: CorpusArguments, manifest: dict[str, Any], folder: Path) -> None:
    """Refuses a corpus that was prepared with other settings."""
    before, now = manifest["made_of"]["settings"], settings_of(args)
    if manifest["made_of"]["format"] != FORMAT:
        raise ValueError(
            f"data_dir={str(folder)!r} has format {manifest['made_of']['format']}, this version "
            f"reads {FORMAT}; prepare the corpus again in another data_dir"
        )
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        lines = "".join(
            f"\n  {name}: prepared with {before.get(name)!r}, asked for {now.get(name)!r}"
            for name in changed
        )
        raise ValueError(
            f"data_dir={str(folder)!r} was prepared with other settings:{lines}\n"
            "Use its settings, or prepare these in another data_dir"
        )


def statistics_of(shards: Shards, records: list[dict[str, Any] | None]) -> dict[str, Any]:
    """Numbers of the whole corpus, summed over its shards."""
    totals: dict[str, Any] = {"shards": len(shards)}
    for shard, record in enumerate(records):
        split = "train" if shard < shards.train else "validation"
        for name, value in (record or {}).items():
            if isinstance(value, int) and name != "crc32":
                key = f"{split}_{name}"
                totals[key] = totals.get(key, 0) + value
    return totals
