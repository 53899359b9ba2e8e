"""From sources to shards of sentence pairs, in bounded memory, in several jobs and processes.

The first pass spools the documents of every part of every source. The second makes the pairs of
each shard. A file that is whole on disk is not made again.
"""

import os
import shutil
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from tokenizers import Tokenizer
from tqdm import tqdm
from tqdm.contrib.concurrent import process_map
from transformers import PreTrainedTokenizerFast

from sift_trainer.checkpoints.whole_files import write_json
from sift_trainer.reproduction.corpus.corpus import (
    TRAIN,
    VOCAB_SIZE,
    Corpus,
    CorpusArguments,
    check_same,
    folder_of,
    load_corpus,
    made_of,
    read_manifest,
)
from sift_trainer.reproduction.corpus.sentence_pairs import sentence_pairs, sentences
from sift_trainer.reproduction.corpus.shards import Shards, read_record, spool, spooled, write_shard
from sift_trainer.reproduction.corpus.sources import (
    Part,
    documents,
    parts,
    read_sources,
    text_bytes,
)
from sift_trainer.reproduction.corpus.vocabulary import load_wordpiece, train_wordpiece

SHARD_BYTES = 16_000_000  # of text; what a process holds is a small multiple of it
_VOCABULARY_BYTES = 100_000_000  # of text that a vocabulary is trained on


@dataclass
class ShareArguments:
    """Which part of a preparation to do, and with how many processes. No row depends on them.

    Each of ``num_shards`` jobs reads all sources and makes every ``num_shards``-th shard, at the
    same time on a shared folder or one after another.
    """

    num_proc: int = 1
    shard_index: int = 0
    num_shards: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.shard_index < self.num_shards:
            raise ValueError(
                f"shard_index={self.shard_index} must be in 0..{self.num_shards - 1} for "
                f"num_shards={self.num_shards}"
            )


def prepare_corpus(
    args: CorpusArguments, share: ShareArguments | None = None, progress: bool = True
) -> Path:
    """Prepares a corpus, or one job's share of it, and returns its folder.

    Equal settings and sources give equal rows, whatever `share` is.

    Raises:
        ValueError: a source cannot be read, the folder has another corpus, or there are too few
            documents.
        RuntimeError: a process of `num_proc` was killed.
    """
    share = share or ShareArguments()
    folder = folder_of(args)
    folder.mkdir(parents=True, exist_ok=True)
    shards = _begin(folder, args)
    name = f"{share.shard_index}-of-{share.num_shards}"
    with FileLock(folder / f".lock-{name}"):
        _make(folder, args, share, shards, progress)
    return folder


def prepared(args: CorpusArguments, progress: bool = True) -> Corpus:
    """Prepares the corpus if that is not done yet, and opens it."""
    share = ShareArguments(num_proc=os.cpu_count() or 1)
    return load_corpus(replace(args, data_dir=str(prepare_corpus(args, share, progress))))


def _begin(folder: Path, args: CorpusArguments) -> Shards:
    """The shards as the first job of a preparation has counted them."""
    with FileLock(folder / ".lock"):
        manifest, now = read_manifest(folder), made_of(args)
        if manifest is None:
            shards = _count_shards(args)
            write_json(folder / "manifest.json", {**now, "shards": shards})
            return shards
    check_same(folder, manifest, now)
    return Shards(*manifest["shards"])


def _count_shards(args: CorpusArguments) -> Shards:
    train = args.shards
    if train is None:
        sizes = {name: text_bytes(source) for name, source in read_sources(args.sources).items()}
        if unknown := [name for name, size in sizes.items() if size is None]:
            raise ValueError(f"sources.{unknown[0]} has no size; set shards, to one per 16 MB")
        train = max(1, round(sum(size or 0 for size in sizes.values()) / SHARD_BYTES))
    validation = max(1, round(train * args.validation_fraction))
    return Shards(train, validation, args.validation_fraction, args.corpus_seed)


def _make(
    folder: Path, args: CorpusArguments, share: ShareArguments, shards: Shards, progress: bool
) -> None:
    mine = range(share.shard_index, len(shards), share.num_shards)
    missing = [shard for shard in mine if read_record(shards.path(folder, shard)) is None]
    if not missing:
        return
    if args.tokenizer != TRAIN:
        _save_tokenizer(folder, load_wordpiece(args.tokenizer))
    elif share.num_shards > 1:
        raise ValueError("tokenizer='train' needs num_shards=1; give the folder of a tokenizer")
    spool_folder = folder / f".spool-{share.shard_index}-of-{share.num_shards}"
    reading = [
        (part, spool_folder / f"{number}-{place:05}.arrow")
        for number, source in enumerate(read_sources(args.sources).values())
        for place, part in enumerate(parts(source))
    ]
    paths = [path for _, path in reading]
    todo = [task for task in reading if not task[-1].is_file()]
    # All shards of this job are spooled: others may be missing when an interrupted job goes on.
    _run_all(partial(_spool_part, shards, mine), todo, share.num_proc, "reading", progress)
    if args.tokenizer == TRAIN and not (folder / "tokenizer").is_dir():
        texts = list(_vocabulary_texts(paths, shards))
        _save_tokenizer(folder, train_wordpiece(texts, args.vocab_size or VOCAB_SIZE))
    pack = partial(_write_pairs, folder, args, shards, paths)
    _run_all(pack, missing, share.num_proc, "packing pairs", progress)
    shutil.rmtree(spool_folder)


def _spool_part(shards: Shards, mine: range, task: tuple[Part, Path]) -> None:
    part, path = task
    spool(documents(part), shards, mine, path)


def _write_pairs(
    folder: Path, args: CorpusArguments, shards: Shards, paths: list[Path], shard: int
) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    texts = spooled(paths, shard)
    encoded = [
        # arrays take less memory than lists
        [
            array("i", sentence.ids)
            for sentence in tokenizer.encode_batch_fast(sentences(text), add_special_tokens=False)
        ]
        for text in texts
    ]
    record = {
        "documents": len(texts),
        "word_pieces": sum(len(sentence) for document in encoded for sentence in document),
    }
    pairs = sentence_pairs(
        encoded,
        args.max_length,
        args.short_fraction,
        generator=np.random.default_rng([args.corpus_seed, shard]),
    )
    write_shard(shards.path(folder, shard), pairs, tokenizer, record)


def _vocabulary_texts(paths: list[Path], shards: Shards) -> Iterator[str]:
    """The documents for training: all of them, or those of the first shards of a large corpus."""
    size = 0
    for shard in range(shards.train):
        for text in spooled(paths, shard):
            size += len(text)
            yield text
        if size >= _VOCABULARY_BYTES:
            return


def _save_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Saves the tokenizer once; all jobs then use this copy."""
    place, unfinished = folder / "tokenizer", folder / f".tokenizer.{os.getpid()}"
    with FileLock(folder / ".lock"):
        if not place.is_dir():
            tokenizer.save_pretrained(str(unfinished))
            os.replace(unfinished, place)


def _run_all(
    function: Callable[[Any], None], tasks: list[Any], num_proc: int, stage: str, progress: bool
) -> None:
    bar: dict[str, Any] = {"desc": stage, "disable": not progress}
    if min(num_proc, len(tasks)) < 2:
        for task in tqdm(tasks, **bar):
            function(task)
    else:
        process_map(partial(_alone, function), tasks, max_workers=num_proc, chunksize=1, **bar)


def _alone(function: Callable[[Any], None], task: Any) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes share the cores
    function(task)
