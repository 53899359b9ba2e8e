"""The data of `time_to_accuracy.py`: real text and images, prepared once in a folder of its own.

What a regime trains and validates on is fixed: subsets, splits, masks and wrong labels do not
depend on a run's seed, which is of weights and order alone.
"""

import json
import lzma
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset, Subset
from transformers import default_data_collator

from sift_trainer.data.images import ImageArguments, load_images
from sift_trainer.data.images.batches import EvaluationDataset, ImageCollator, PixelDataset
from sift_trainer.data.text.corpus import Corpus, CorpusArguments
from sift_trainer.data.text.masking import FixedMasks, PairCollator
from sift_trainer.data.text.preparation import prepared
from sift_trainer.data.text.sources import Sources
from sift_trainer.pretraining.job import CollatorOfBoth

LENGTH, VOCABULARY = 64, 4096
SEEN = 500  # training rows whose loss is looked at, at most
BLOCK, BLOCKS = 20, 10  # every tenth block of 20 passages of a book is for validation


@dataclass(frozen=True)
class StudyData:
    """What every run of a regime shares.

    Attributes:
        train: rows to train on.
        validation: rows whose accuracy counts.
        trained: some of the training rows as validation rows are, to see how far they are fitted.
        collator: for all three.
        classes: of a classification; otherwise the size of the vocabulary.
    """

    train: Dataset[Any]
    validation: Dataset[Any]
    trained: Dataset[Any]
    collator: Callable[[list[Any]], dict[str, Any]]
    classes: int


class Rows(Dataset[dict[str, Tensor]]):
    """Rows of word pieces (n, length) with their labels, (n,) or as long as they are."""

    def __init__(self, input_ids: Tensor, labels: Tensor) -> None:
        self.input_ids, self.labels = input_ids, labels

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"input_ids": self.input_ids[row], "labels": self.labels[row]}


def corpus(data: Path, cache: Path) -> Corpus:
    """An eighth of the articles and a third of the novels as sentence pairs, with word pieces of
    their own."""
    files = {
        "wikipedia": {"files": str(data / "wikipedia" / "wikipedia-00.jsonl.xz")},
        "books": {"files": str(data / "books" / "books-00.jsonl.xz"), "wrapped": True},
    }
    arguments = CorpusArguments(
        sources=Sources(files),
        vocab_size=VOCABULARY,
        max_length=LENGTH,
        short_fraction=0.0,
        validation_fraction=0.02,
        cache_dir=str(cache / "corpus"),
    )
    return prepared(arguments)


def pairs(data: Path, cache: Path, rows: int, validation_rows: int) -> StudyData:
    """Sentence pairs, of whose word pieces 15% are to be predicted."""
    text = corpus(data, cache)
    collator = PairCollator(text.tokenizer, LENGTH, seed=0)
    return StudyData(
        Subset(text.train, range(rows)),
        FixedMasks(Subset(text.validation, range(validation_rows)), collator, seed=0),
        FixedMasks(Subset(text.train, range(min(rows, SEEN))), collator, seed=1),
        CollatorOfBoth(collator),
        len(text.tokenizer),
    )


def lines(data: Path, cache: Path, rows: int, validation_rows: int) -> StudyData:
    """The same text from left to right: the pairs whose second half follows the first."""
    text = corpus(data, cache)
    train = _of_full_length(text, text.train, rows)
    validation = _of_full_length(text, text.validation, validation_rows)
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
) -> StudyData:
    """Passages of 62 word pieces, and which author wrote them.

    Args:
        classes: so many authors, those with most text.
        rows: passages of an author to train on, at most.
        validation_rows: of each author, from other parts of the books.
        tail: what the rarest author's share is of the most frequent one's, in steps of one ratio.
        even: repeat the rows of rarer authors until all have as many.
        flips: share of training rows whose author is another one's name, each as likely.
    """
    stored = np.load(_stored_passages(data, cache))
    ids, authors = torch.from_numpy(stored["ids"].astype(np.int64)), stored["authors"]
    splits = []
    for split, count in ((0, rows), (1, validation_rows)):
        counts = long_tail(classes, count, tail if split == 0 else 1.0)
        found = [
            np.flatnonzero((authors == a) & (stored["split"] == split)) for a in range(classes)
        ]
        own = [spaced(rows, most) for rows, most in zip(found, counts, strict=True)]
        chosen = np.concatenate(repeated(own) if even and split == 0 else own)
        splits.append(Rows(ids[chosen], torch.from_numpy(authors[chosen].astype(np.int64))))
    train, validation = splits
    train.labels = flipped(train.labels, classes, flips)
    seen = torch.from_numpy(spaced(np.arange(len(train)), SEEN))
    trained = Rows(train.input_ids[seen], train.labels[seen])
    return StudyData(train, validation, trained, default_data_collator, classes)


def images(
    data: Path,
    cache: Path,
    rows: int,
    validation_rows: int,
    classes: Sequence[int],
    label: str = "fine_label",
    tail: float = 1.0,
    even: bool = False,
) -> StudyData:
    """Some classes of CIFAR-100 at 16 x 16 pixels, the means of four each.

    Args:
        rows: images of a class to train on.
        validation_rows: of each class, from the test images.
        classes: their numbers.
        label: ``fine_label``, or ``coarse_label`` for the 20 groups of classes.
        tail: as in `passages`.
        even: likewise.
    """
    arguments = ImageArguments(
        files=str(data / "cifar-100"), label_column=label, image_cache_dir=str(cache / "images")
    )
    usual = arguments.defaults
    file = cache / f"images_16_{label}.pt"
    if not file.is_file():
        whole = load_images(arguments, progress=False)
        torch.save([_halved(part) for part in (whole.train, whole.test.dataset)], file)
    train, test = (PixelDataset(*part) for part in torch.load(file))
    train = _some(train, classes, long_tail(len(classes), rows, tail), even)
    validation = _some(test, classes, [validation_rows] * len(classes))
    collator = ImageCollator(16, usual.mean, usual.std, seed=0)
    some = torch.from_numpy(spaced(np.arange(len(train)), SEEN))
    trained = PixelDataset(train.pixels[some], train.labels[some])
    shown = [EvaluationDataset(part, 16, usual.mean, usual.std) for part in (validation, trained)]
    return StudyData(train, shown[0], shown[1], collator, len(classes))


# ---- what they are made with ----


def long_tail(classes: int, most: int, tail: float) -> list[int]:
    """How many rows each class has: ``most`` of the first, ``tail`` times as many of the last, by
    one ratio from class to class (Cui et al., 2019, section 5.1)."""
    if not 0 < tail <= 1:
        raise ValueError(f"tail={tail} must be in (0, 1], such as 0.05; 1 is as many of each")
    last = max(classes - 1, 1)
    return [max(1, round(most * tail ** (number / last))) for number in range(classes)]


def flipped(labels: Tensor, classes: int, share: float) -> Tensor:
    """Labels of which a share is exchanged for another class, always the same rows."""
    if not 0 <= share < 1:
        raise ValueError(f"flips={share} must be in [0, 1), such as 0.2")
    draw = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(labels), generator=draw) < share
    others = labels + torch.randint(1, classes, (len(labels),), generator=draw)
    return torch.where(wrong, others % classes, labels)


def spaced(rows: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` of the rows, from all over them."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(int)]


def repeated(classes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The rows of each class again and again, until it has as many as the largest one."""
    most = max(len(rows) for rows in classes)
    return [np.resize(rows, most) for rows in classes]


def _of_full_length(text: Corpus, pairs: Dataset[Any], wanted: int) -> Tensor:
    found: list[list[int]] = []
    for number in range(len(pairs)):  # type: ignore[arg-type]
        row = pairs[number]
        if row["next_sentence_label"] == 0 and len(row["input_ids"]) == LENGTH:
            found.append(row["input_ids"])
        if len(found) == wanted:
            break
    if len(found) < wanted:
        raise ValueError(f"rows={wanted}: the corpus has {len(found)} such rows; use fewer")
    return torch.tensor(found)


def _stored_passages(data: Path, cache: Path) -> Path:
    file = cache / "passages.npz"
    if file.is_file():
        return file
    tokenizer = corpus(data, cache).tokenizer
    ends = tokenizer.cls_token_id, tokenizer.sep_token_id
    found: dict[str, list[tuple[list[int], int]]] = defaultdict(list)
    for author, text in _novels(data):
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        step = LENGTH - len(ends)
        for number in range(len(ids) // step):
            passage = [ends[0], *ids[number * step : (number + 1) * step], ends[1]]
            found[author].append((passage, int(number // BLOCK % BLOCKS == BLOCKS - 1)))
    authors = sorted(found, key=lambda name: (-len(found[name]), name))
    cut = [(each, number) for number, name in enumerate(authors) for each in found[name]]
    np.savez(
        file,
        ids=np.array([passage for (passage, _), _ in cut], dtype=np.uint16),
        split=np.array([split for (_, split), _ in cut], dtype=np.uint8),
        authors=np.array([author for _, author in cut], dtype=np.uint8),
    )
    return file


def _novels(data: Path) -> Iterator[tuple[str, str]]:
    for file in sorted((data / "books").glob("*.jsonl.xz")):
        with lzma.open(file, "rt", encoding="utf-8") as stream:
            for line in stream:
                novel = json.loads(line)
                yield novel["author"], " ".join(novel["text"].split())


def _halved(part: PixelDataset) -> tuple[Tensor, Tensor]:
    pixels = functional.avg_pool2d(part.pixels.float(), 2).round().to(torch.uint8)
    return pixels, part.labels


def _some(
    part: PixelDataset, classes: Sequence[int], counts: Sequence[int], even: bool = False
) -> PixelDataset:
    """So many images of each class, whose labels become 0, 1, 2..."""
    own = [
        np.flatnonzero(part.labels.numpy() == label)[:count]
        for label, count in zip(classes, counts, strict=True)
    ]
    own = repeated(own) if even else own
    labels = [np.full_like(rows, number) for number, rows in enumerate(own)]
    chosen = torch.from_numpy(np.concatenate(own))
    return PixelDataset(part.pixels[chosen], torch.from_numpy(np.concatenate(labels)))
