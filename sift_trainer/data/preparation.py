"""From sources to shards of sentence pairs, in bounded memory, in parts, and continued if stopped.

First every unit of every source is spooled, its documents sorted by shard (`data/spool.py`); then
every shard is collected, split into sentences, tokenized, packed into pairs and written. A process
holds one round of a spool or one shard at a time, whatever the size of the corpus. Whatever is
whole on disk is not made again.
"""

import logging
import os
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from multiprocessing import current_process, get_all_start_methods, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from sift_trainer.atomic_write import write_json
from sift_trainer.data.corpus import (
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
from sift_trainer.data.sentence_pairs import sentence_pairs, sentences
from sift_trainer.data.shards import pair_arrays, read_record, write_shard
from sift_trainer.data.sources import Source, Unit, documents, read_sources, units
from sift_trainer.data.spool import Document, Shards, spool, spooled
from sift_trainer.data.vocabulary import load_wordpiece, train_wordpiece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

SHARD_BYTES = 16_000_000  # of text; what a process holds is a small multiple of it
_VOCABULARY_BYTES = 100_000_000  # of text that a vocabulary is trained on
_DOCUMENTS_AT_ONCE = 200
Result = TypeVar("Result")


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
    _check_main_guard()
    folder = folder_of(args)
    folder.mkdir(parents=True, exist_ok=True)
    shards = _begin(folder, args)
    mine = [shard for shard in range(len(shards)) if shard % share.num_shards == share.shard_index]
    name = f"{share.shard_index}-of-{share.num_shards}"
    with _alone(folder / f".lock-{name}"):
        missing = [shard for shard in mine if read_record(folder / shards.name(shard)) is None]
        if missing:
            _make(folder, args, share, shards, missing, folder / f".spool-{name}", progress)
    return folder


def prepared(args: CorpusArguments, progress: bool = True) -> Corpus:
    """Prepares the corpus where that is not done yet, and reads it."""
    share = ShareArguments(num_proc=os.cpu_count() or 1)
    return load_corpus(replace(args, data_dir=str(prepare_corpus(args, share, progress))))


def _check_main_guard() -> None:
    """Refuse to be called while a worker imports the script that started it.

    Python does so itself when that starts a process (the same private flag tells), but here the
    worker would wait for the lock of its own parent first.
    """
    if getattr(current_process(), "_inheriting", False):
        raise RuntimeError(
            "prepare_corpus was called again by its own worker, which imports the script that "
            'calls it; write the call under if __name__ == "__main__":'
        )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Within the context no other process does the same part of the work."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning(f"waiting for another process, which prepares the same in {path.parent}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


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
    missing: list[int],
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
    reading = [
        (*part, shards, frozenset(missing), path)
        for part, path in zip(parts, paths, strict=True)
        if not Path(f"{path}.json").is_file()
    ]
    _all(_spool_unit, reading, share.num_proc, "reading", "file", progress)
    if args.tokenizer == TRAIN and not (folder / "tokenizer").is_dir():
        _save_tokenizer(folder, _trained(paths, shards, args.vocab_size or VOCAB_SIZE, progress))
    packing = [(folder, paths, shard, shards, args, tuple(sources)) for shard in missing]
    _all(_write_pairs, packing, share.num_proc, "packing pairs", "shard", progress)
    shutil.rmtree(spool_folder)


def _spool_unit(
    source: Source, unit: Unit, number: int, shards: Shards, wanted: frozenset[int], path: Path
) -> None:
    spool(documents(source, unit), number, shards, wanted, path)


def _write_pairs(
    folder: Path,
    paths: list[Path],
    shard: int,
    shards: Shards,
    args: CorpusArguments,
    names: tuple[str, ...],
) -> None:
    """One shard, from its spooled documents."""
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    found = _in_order(spooled(paths, shard))
    encoded = list(_encoded((document.text for document in found), tokenizer))
    generator = np.random.default_rng([args.corpus_seed, shard])
    try:
        pairs = sentence_pairs(
            encoded,
            args.max_length,
            args.short_fraction,
            args.random_next_fraction,
            generator=generator,
        )
    except ValueError as error:
        raise ValueError(
            f"{shards.name(shard)}: {error}; use fewer shards (shards={shards.train} now) or a "
            f"larger validation_fraction ({args.validation_fraction} now)"
        ) from error
    arrays = pair_arrays(
        pairs,
        cls_id=tokenizer.token_to_id("[CLS]"),
        sep_id=tokenizer.token_to_id("[SEP]"),
        vocab_size=tokenizer.get_vocab_size(),
    )
    per_source = np.bincount([document.source for document in found], minlength=len(names))
    record = {
        "documents": len(found),
        "text_bytes": sum(len(document.text.encode()) for document in found),
        "word_pieces": sum(len(sentence) for document in encoded for sentence in document),
        "random_next": int(arrays.is_random.sum()),
        **{f"documents_of_{name}": int(n) for name, n in zip(names, per_source, strict=True)},
    }
    write_shard(folder / shards.name(shard), arrays, record)


def _in_order(found: Iterable[Document]) -> list[Document]:
    """By digest, equal documents once."""
    distinct = {document.digest: document for document in found}
    return [distinct[digest] for digest in sorted(distinct)]


def _encoded(texts: Iterable[str], tokenizer: Any) -> Iterator[list["array[int]"]]:
    """Documents as sentences of token ids, compactly, some documents at a time."""
    kind = "H" if tokenizer.get_vocab_size() <= 2**16 else "i"
    batch: list[list[str]] = []
    for text in chain(texts, [None]):
        if text is not None:
            batch.append(sentences(text))
        if text is None or len(batch) == _DOCUMENTS_AT_ONCE:
            flat = [sentence for document in batch for sentence in document]
            ids = iter(tokenizer.encode_batch_fast(flat, add_special_tokens=False))
            for document in batch:
                yield [array(kind, next(ids).ids) for _ in document]
            batch = []


def _trained(
    paths: list[Path], shards: Shards, vocab_size: int, progress: bool
) -> "PreTrainedTokenizerFast":
    """A vocabulary from training documents: all of them, or the first shards of a large corpus."""
    texts: list[str] = []
    size = 0
    for shard in range(shards.train):
        texts += [document.text for document in _in_order(spooled(paths, shard))]
        size = sum(map(len, texts))
        if size >= _VOCABULARY_BYTES:
            break
    with _all_cores(), tqdm(total=1, desc="training the vocabulary", disable=not progress) as bar:
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


def _all(
    function: Callable[..., Result],
    tasks: Sequence[tuple[Any, ...]],
    processes: int,
    stage: str,
    unit: str,
    progress: bool,
) -> None:
    """Calls `function` with every task, in this process or in several."""
    bar = tqdm(total=len(tasks), desc=stage, unit=unit, disable=not progress)
    with bar:
        if min(processes, len(tasks)) < 2:
            for task in tasks:
                function(*task)
                bar.update()
            return
        # Forked from a server that has imported everything and started no thread.
        method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
        context = get_context(method)
        context.set_forkserver_preload([__name__])
        with _one_thread(), ProcessPoolExecutor(min(processes, len(tasks)), context) as pool:
            running = [pool.submit(function, *task) for task in tasks]
            try:
                for done in as_completed(running):
                    done.result()
                    bar.update()
            except BrokenProcessPool as error:
                raise RuntimeError(
                    f"a process was killed while {stage}, perhaps for its memory; what is finished "
                    f"is kept: run the same again, with num_proc below {processes} if need be"
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _all_cores() -> Any:
    """Lets `tokenizers` use every core, whatever TOKENIZERS_PARALLELISM says outside."""
    return _environment("TOKENIZERS_PARALLELISM", "true")


def _one_thread() -> Any:
    return _environment("TOKENIZERS_PARALLELISM", "false")
