"""From sources to shards of sentence pairs, in bounded memory, in parts, and continued if stopped.

First every unit of every source is spooled, its documents sorted by shard (`data/spool.py`); then
every shard is collected, split into sentences, tokenized, packed into pairs and written. A process
holds one round of a spool or one shard at a time, whatever the size of the corpus. Whatever is
whole on disk is not made again.
"""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from tqdm import tqdm

from sift_trainer.checkpoints.whole_files import write_json
from sift_trainer.data.text.corpus import (
    TRAIN,
    VOCAB_SIZE,
    Corpus,
    CorpusArguments,
    check_settings,
    folder_of,
    load_corpus,
    made_of,
    read_manifest,
)
from sift_trainer.data.text.packing import in_order, write_pairs
from sift_trainer.data.text.shards import read_record
from sift_trainer.data.text.sources import Source, Unit, documents, read_sources, units
from sift_trainer.data.text.spool import Shards, spool, spooled
from sift_trainer.data.text.vocabulary import load_wordpiece, train_wordpiece
from sift_trainer.data.text.workers import all_cores, alone, check_main_guard, run_all

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHARD_BYTES = 16_000_000  # of text; what a process holds is a small multiple of it
_VOCABULARY_BYTES = 100_000_000  # of text that a vocabulary is trained on


@dataclass
class ShareArguments:
    """Which part of a preparation to do, and with how many processes; decides no row.

    Raises:
        ValueError: at construction, naming the field, its value and what it accepts.
    """

    num_proc: int = 1
    shard_index: int = 0
    num_shards: int = 1

    def __post_init__(self) -> None:
        for name in ("num_proc", "num_shards"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more, such as 8")
        if not 0 <= self.shard_index < self.num_shards:
            raise ValueError(
                f"shard_index={self.shard_index} must be in 0..{self.num_shards - 1}, one for each "
                f"of num_shards={self.num_shards} jobs"
            )


def prepare_corpus(
    args: CorpusArguments, share: ShareArguments | None = None, progress: bool = True
) -> Path:
    """Prepares a corpus, or one job's share of it, and returns its folder.

    Equal settings and sources give equal rows, whatever `share` is. What an interrupted call
    left whole is kept, and a call for a finished corpus returns at once.

    Args:
        share: of ``num_shards`` jobs each makes every ``num_shards``-th file, reading all sources
            by itself: they may run at the same time on a shared folder, or one after another.
        progress: show tqdm bars, one per stage.

    Raises:
        ValueError: a source cannot be read, the folder holds another corpus, or there are too few
            documents.
        RuntimeError: a process of `num_proc` was killed; what is finished is kept.
        ImportError: the ``data`` extra is not installed.
    """
    share = share or ShareArguments()
    check_main_guard()
    folder = folder_of(args)
    folder.mkdir(parents=True, exist_ok=True)
    shards = _begin(folder, args)
    mine = [shard for shard in range(len(shards)) if shard % share.num_shards == share.shard_index]
    name = f"{share.shard_index}-of-{share.num_shards}"
    with alone(folder / f".lock-{name}"):
        if any(read_record(folder / shards.name(shard)) is None for shard in mine):
            _make(folder, args, share, shards, mine, folder / f".spool-{name}", progress)
    return folder


def prepared(args: CorpusArguments, progress: bool = True) -> Corpus:
    """Prepares the corpus where that is not done yet, and reads it."""
    share = ShareArguments(num_proc=os.cpu_count() or 1)
    return load_corpus(replace(args, data_dir=str(prepare_corpus(args, share, progress))))


def _begin(folder: Path, args: CorpusArguments) -> Shards:
    """The number of shards, as the first job of a preparation wrote it down."""
    with FileLock(folder / ".lock"):
        manifest = read_manifest(folder)
        if manifest is None:
            shards = _count_shards(args)
            write_json(folder / "manifest.json", {"made_of": made_of(args), "shards": shards})
            return shards
        check_settings(args, manifest, folder)
        before, now = manifest["made_of"], made_of(args)
        changed = [name for name in now if now[name] != before[name]]
        if changed:
            raise ValueError(
                f"data_dir={str(folder)!r} was begun from other {' and '.join(changed)}: "
                f"{before[changed[0]]} then, {now[changed[0]]} now; prepare in another data_dir"
            )
        shards = Shards(*manifest["shards"])
        if args.shards not in (None, shards.train):
            raise ValueError(
                f"shards={args.shards}: the preparation in {folder} was begun with {shards.train}"
            )
        return shards


def _count_shards(args: CorpusArguments) -> Shards:
    train = args.shards
    if train is None:
        size = 0.0
        for name, source in read_sources(args.sources).items():
            for unit in units(name, source):
                if unit.size is None:
                    raise ValueError(
                        f"sources.{name}: its size is not known beforehand; set shards to one per "
                        f"{SHARD_BYTES // 10**6} MB of text, such as shards: 1000"
                    )
                size += unit.size
        train = max(1, round(size / SHARD_BYTES))
    validation = max(1, round(train * args.validation_fraction))
    return Shards(train, validation, args.validation_fraction, args.corpus_seed)


def _make(
    folder: Path,
    args: CorpusArguments,
    share: ShareArguments,
    shards: Shards,
    mine: list[int],
    spool_folder: Path,
    progress: bool,
) -> None:
    if args.tokenizer == TRAIN and share.num_shards > 1:
        raise ValueError(
            f"tokenizer='train' needs all of the text, and num_shards={share.num_shards} jobs see "
            "a part each; use num_shards=1, or give the folder of a tokenizer"
        )
    sources = read_sources(args.sources)
    if args.tokenizer != TRAIN:  # before hours of work
        _save_tokenizer(folder, load_wordpiece(args.tokenizer))
    spool_folder.mkdir(exist_ok=True)
    parts = [
        (source, unit, number)
        for number, (name, source) in enumerate(sources.items())
        for unit in units(name, source)
    ]
    paths = [spool_folder / f"{number:05}" for number in range(len(parts))]
    # Not only for the shards that are missing now: this spool may be continued when others are.
    reading = [
        (*part, shards, frozenset(mine), path)
        for part, path in zip(parts, paths, strict=True)
        if not Path(f"{path}.json").is_file()
    ]
    run_all(_spool_unit, reading, share.num_proc, "reading", "file", progress)
    if args.tokenizer == TRAIN and not (folder / "tokenizer").is_dir():
        _save_tokenizer(folder, _trained(paths, shards, args.vocab_size or VOCAB_SIZE, progress))
    packing = [
        (folder, paths, shard, shards, args, tuple(sources))
        for shard in mine
        if read_record(folder / shards.name(shard)) is None
    ]
    run_all(write_pairs, packing, share.num_proc, "packing pairs", "shard", progress)
    shutil.rmtree(spool_folder)


def _spool_unit(
    source: Source, unit: Unit, number: int, shards: Shards, wanted: frozenset[int], path: Path
) -> None:
    spool(documents(source, unit), number, shards, wanted, path)


def _trained(
    paths: list[Path], shards: Shards, vocab_size: int, progress: bool
) -> "PreTrainedTokenizerFast":
    """A vocabulary from training documents: all of them, or the first shards of a large corpus."""
    texts: list[str] = []
    size = 0
    for shard in range(shards.train):
        found = [document.text for document in in_order(spooled(paths, shard))]
        texts += found
        size += sum(map(len, found))
        if size >= _VOCABULARY_BYTES:
            break
    with all_cores(), tqdm(total=1, desc="training the vocabulary", disable=not progress) as bar:
        tokenizer = train_wordpiece(texts, vocab_size)
        bar.update()
    return tokenizer


def _save_tokenizer(folder: Path, tokenizer: "PreTrainedTokenizerFast") -> None:
    """Once for all jobs; refuses another one than the first job's."""
    with FileLock(folder / ".lock"):
        place = folder / "tokenizer"
        if place.is_dir():
            before = load_wordpiece(str(place)).backend_tokenizer.to_str()
            if before != tokenizer.backend_tokenizer.to_str():
                raise ValueError(
                    f"{place} is not the tokenizer that was asked for, which must have changed "
                    "since the preparation began; prepare in another data_dir"
                )
            return
        unfinished = folder / f".tokenizer.{os.getpid()}"
        tokenizer.save_pretrained(str(unfinished))
        os.replace(unfinished, place)
