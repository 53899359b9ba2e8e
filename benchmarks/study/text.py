"""Text of `time_to_accuracy.py`: articles and novels, prepared once in a folder of its own."""

import json
import lzma
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset
from transformers import default_data_collator

from sift_trainer.reproduction.bert.job import CollatorOfBoth
from sift_trainer.reproduction.corpus.corpus import Corpus, CorpusArguments
from sift_trainer.reproduction.corpus.masking import FixedMasks, PairCollator
from sift_trainer.reproduction.corpus.preparation import prepared
from sift_trainer.reproduction.corpus.sources import Sources
from study.data import SEEN, Rows, StudyData, flipped, long_tail, repeated, spaced, with_copies

LENGTH, VOCABULARY = 64, 4096
BLOCK, BLOCKS = 20, 10  # every tenth block of 20 passages of a book is for validation
ARTICLES = "Wikipedia"  # as an author


def corpus(data: Path, cache: Path, vocabulary: int = VOCABULARY, length: int = LENGTH) -> Corpus:
    """An eighth of the articles and a third of the novels as sentence pairs, with their own word
    pieces."""
    files = {
        "wikipedia": {"files": str(data / "wikipedia" / "wikipedia-00.jsonl.xz")},
        "books": {"files": str(data / "books" / "books-00.jsonl.xz"), "wrapped": True},
    }
    arguments = CorpusArguments(
        sources=Sources(files),
        vocab_size=vocabulary,
        max_length=length,
        short_fraction=0.0,
        validation_fraction=0.02,
        cache_dir=str(cache / "corpus"),
    )
    return prepared(arguments)


def pairs(
    data: Path,
    cache: Path,
    rows: int,
    validation_rows: int,
    vocabulary: int = VOCABULARY,
    length: int = LENGTH,
) -> StudyData:
    """Sentence pairs; 15% of their word pieces are to be predicted."""
    text = corpus(data, cache, vocabulary, length)
    collator = PairCollator(text.tokenizer, length, seed=0)
    return StudyData(
        Subset(text.train, range(rows)),
        FixedMasks(Subset(text.validation, range(validation_rows)), collator, seed=0),
        FixedMasks(Subset(text.train, range(min(rows, SEEN))), collator, seed=1),
        CollatorOfBoth(collator),
        len(text.tokenizer),
    )


def lines(
    data: Path,
    cache: Path,
    rows: int,
    validation_rows: int,
    copies: float = 0.0,
    distinct: int = 100,
) -> StudyData:
    """The same text from left to right: the pairs whose second half follows the first.

    Args:
        copies: share of the rows to train on that are copies of ``distinct`` other ones.
    """
    text = corpus(data, cache)
    train = _of_full_length(text.train, rows + distinct)
    train = train[with_copies(np.arange(len(train)), distinct, copies)]
    validation = _of_full_length(text.validation, validation_rows)
    return StudyData(
        Rows(train, train),
        Rows(validation, validation),
        Rows(train[:SEEN], train[:SEEN]),
        default_data_collator,
        len(text.tokenizer),
    )


def passages(
    data: Path,
    cache: Path,
    rows: int,
    validation_rows: int,
    classes: int,
    tail: float = 1.0,
    even: bool = False,
    flips: float = 0.0,
    background: int = 0,
) -> StudyData:
    """Passages of 62 word pieces, and which author wrote them.

    Args:
        classes: so many authors, those with most text.
        rows: passages of an author to train on, at most.
        validation_rows: of each author, from other parts of the books.
        tail: the rarest author's share of the most frequent one's rows.
        even: repeat the rows of rarer authors until all have as many.
        flips: share of training rows that have another author's name.
        background: passages of Wikipedia to train on, which are one more class.
    """
    novels = _stored(cache / "passages.npz", lambda: _cut_up(corpus(data, cache), _novels(data)))
    articles = _stored(
        cache / "articles.npz", lambda: _cut_up(corpus(data, cache), _articles(data))
    )
    splits = []
    for split, count in ((0, rows), (1, validation_rows)):
        counts = long_tail(classes, count, tail if split == 0 else 1.0)
        own = [spaced(_of(novels, split, author), most) for author, most in enumerate(counts)]
        if background:
            own.append(spaced(_of(articles, split), background if split == 0 else count))
        own = repeated(own) if even and split == 0 else own
        labels = np.concatenate([np.full(len(ids), label) for label, ids in enumerate(own)])
        ids = np.concatenate(own).astype(np.int64)
        splits.append(Rows(torch.from_numpy(ids), torch.from_numpy(labels)))
    train, validation = splits
    classes += background > 0
    train.labels = flipped(train.labels, classes, flips)
    seen = torch.from_numpy(spaced(np.arange(len(train)), SEEN))
    trained = Rows(train.input_ids[seen], train.labels[seen])
    return StudyData(train, validation, trained, default_data_collator, classes)


def _of_full_length(pairs: Dataset[Any], wanted: int) -> Tensor:
    found: list[list[int]] = []
    for number in range(len(pairs)):
        row = pairs[number]
        if row["next_sentence_label"] == 0 and len(row["input_ids"]) == LENGTH:
            found.append(row["input_ids"])
        if len(found) == wanted:
            return torch.tensor(found)
    raise ValueError(f"rows={wanted}: the corpus has {len(found)} such rows; use fewer")


def _stored(file: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if not file.is_file():
        np.savez(file, **make())
    with np.load(file) as stored:
        return dict(stored)


def _of(stored: dict[str, np.ndarray], split: int, author: int = 0) -> np.ndarray:
    """Word pieces (n, length) of an author's passages in a split."""
    return stored["ids"][(stored["authors"] == author) & (stored["split"] == split)]


def _cut_up(text: Corpus, documents: Iterator[tuple[str, str]]) -> dict[str, np.ndarray]:
    """Passages of documents, by author and split; authors by how much text they have."""
    tokenizer = text.tokenizer
    ends = tokenizer.cls_token_id, tokenizer.sep_token_id
    step = LENGTH - len(ends)
    found: dict[str, list[tuple[list[int], int]]] = defaultdict(list)
    for author, words in documents:
        ids = tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"]
        before = len(found[author]) if author == ARTICLES else 0  # few are as long as a block
        for number in range(len(ids) // step):
            passage = [ends[0], *ids[number * step : (number + 1) * step], ends[1]]
            place = (before + number) // BLOCK
            found[author].append((passage, int(place % BLOCKS == BLOCKS - 1)))
    authors = sorted(found, key=lambda name: (-len(found[name]), name))
    cut = [(each, number) for number, name in enumerate(authors) for each in found[name]]
    return {
        "ids": np.array([passage for (passage, _), _ in cut], dtype=np.uint16),
        "split": np.array([split for (_, split), _ in cut], dtype=np.uint8),
        "authors": np.array([author for _, author in cut], dtype=np.uint8),
    }


def _articles(data: Path) -> Iterator[tuple[str, str]]:
    """The first articles, which the word pieces were also trained on."""
    for article in _json_lines(data / "wikipedia" / "wikipedia-00.jsonl.xz"):
        yield ARTICLES, " ".join(article["text"].split())


def _novels(data: Path) -> Iterator[tuple[str, str]]:
    for file in sorted((data / "books").glob("*.jsonl.xz")):
        for novel in _json_lines(file):
            yield novel["author"], " ".join(novel["text"].split())


def _json_lines(file: Path) -> Iterator[dict[str, Any]]:
    with lzma.open(file, "rt", encoding="utf-8") as stream:
        yield from map(json.loads, stream)
