"""The embedded documentation corpus, prepared for pretraining and cached on disk."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from sift_trainer.data.corpus import (
    documentation,
    installed_packages,
    split_by_document,
    train_wordpiece,
)
from sift_trainer.data.sentence_pairs import (
    MIN_LENGTH,
    PairDataset,
    sentence_pairs,
    sentences,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_FORMAT = 2  # raise it when the same settings would give other arrays
_DOCUMENTS_AT_ONCE = 1000


@dataclass(frozen=True)
class PreparedCorpus:
    """A tokenizer, next-sentence pairs of both splits, and what went into them."""

    tokenizer: "PreTrainedTokenizerFast"
    train: PairDataset
    validation: PairDataset
    statistics: dict[str, int | float]


def prepare_documentation(
    cache_dir: str | os.PathLike[str],
    vocab_size: int = 8192,
    max_length: int = 128,
    seed: int = 0,
    validation_documents_fraction: float = 0.02,
    progress: bool = True,
) -> PreparedCorpus:
    """Prepares the embedded corpus, or reads it back if the same was prepared before.

    Documents are split, a vocabulary is trained on the training documents, and both splits are
    packed into pairs in random order of documents, so that any slice of rows is a fair sample.
    The result is kept in ``cache_dir/<fingerprint>``; the fingerprint covers every setting and the
    versions of all packages involved. The folder appears when it is whole: an interrupted
    preparation is never read, and two at once do no harm. Same fingerprint, same arrays.

    Args:
        max_length: longest row in tokens, the three special ones included.
        seed: of the order of documents and of the drawing of pairs.
        progress: show tqdm bars, one per stage.

    Raises:
        ValueError: a setting is out of its range.
        ImportError: the ``data`` extra is not installed.
    """
    if max_length < MIN_LENGTH:
        raise ValueError(f"max_length={max_length}: must be at least {MIN_LENGTH}, such as 128")
    if seed < 0:
        raise ValueError(f"seed={seed}: must not be negative, such as 0")
    settings = {
        "vocab_size": vocab_size,
        "max_length": max_length,
        "seed": seed,
        "validation_documents_fraction": validation_documents_fraction,
    }
    folder = Path(cache_dir) / _fingerprint(settings)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=".unfinished-") as scratch:
            unfinished = Path(scratch) / folder.name
            unfinished.mkdir()
            _prepare(unfinished, settings, progress)
            _publish(unfinished, folder)
    return _load(folder)


def _fingerprint(settings: dict[str, Any]) -> str:
    try:
        sentencex = version("sentencex")
    except PackageNotFoundError as error:
        raise ImportError(
            'preparing a corpus needs sentencex: pip install "sift-trainer[data]"'
        ) from error
    made_of = {
        "format": _FORMAT,
        "settings": settings,
        "packages": installed_packages(),
        "sentencex": sentencex,
    }
    text = json.dumps(made_of, sort_keys=True)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _prepare(folder: Path, settings: dict[str, Any], progress: bool) -> None:
    """Writes the tokenizer, both datasets and the statistics into `folder`."""
    began = time.perf_counter()
    documents = documentation(progress)
    splits = split_by_document(documents, settings["validation_documents_fraction"])
    with _all_cores():
        with tqdm(total=1, desc="training the vocabulary", disable=not progress) as bar:
            tokenizer = train_wordpiece(splits[0], settings["vocab_size"])
            bar.update()
        tokenizer.save_pretrained(str(folder / "tokenizer"))
        statistics: dict[str, int | float] = {
            "documents": len(documents),
            "megabytes": round(sum(map(len, documents)) / 1e6, 3),
            "vocab_size": len(tokenizer),
        }
        for number, (name, split) in enumerate(zip(("train", "validation"), splits, strict=True)):
            generator = np.random.default_rng([settings["seed"], number])
            order = generator.permutation(len(split))
            ids = list(_encode([split[i] for i in order], tokenizer, f"encoding {name}", progress))
            pairs = sentence_pairs(ids, settings["max_length"], generator=generator)
            dataset = PairDataset.from_pairs(
                tqdm(pairs, desc=f"packing {name} pairs", unit="pair", disable=not progress),
                cls_id=int(tokenizer.cls_token_id),
                sep_id=int(tokenizer.sep_token_id),
                vocab_size=len(tokenizer),
            )
            dataset.save(folder / f"{name}.npz")
            statistics |= {
                f"{name}_documents": len(split),
                f"{name}_word_pieces": sum(len(s) for document in ids for s in document),
                f"{name}_pairs": len(dataset),
                f"{name}_random_share": round(float(dataset.is_random.mean()), 4),
            }
    statistics["seconds"] = round(time.perf_counter() - began, 1)
    (folder / "statistics.json").write_text(json.dumps(statistics, indent=2) + "\n")


def _encode(
    documents: Sequence[str], tokenizer: "PreTrainedTokenizerFast", stage: str, progress: bool
) -> Iterator[list[list[int]]]:
    """Documents as sentences of token ids, many documents at a time so that all cores work."""
    with tqdm(total=len(documents), desc=stage, unit="document", disable=not progress) as bar:
        for start in range(0, len(documents), _DOCUMENTS_AT_ONCE):
            batch = [sentences(text) for text in documents[start : start + _DOCUMENTS_AT_ONCE]]
            flat = [sentence for document in batch for sentence in document]
            encoded = iter(
                tokenizer.backend_tokenizer.encode_batch_fast(flat, add_special_tokens=False)
            )
            for document in batch:
                yield [next(encoded).ids for _ in document]
            bar.update(len(batch))


def _publish(unfinished: Path, folder: Path) -> None:
    """Moves a whole preparation to its place, unless another process was first."""
    try:
        os.replace(unfinished, folder)
    except OSError:
        if not folder.is_dir():
            raise


def _load(folder: Path) -> PreparedCorpus:
    from transformers import BertTokenizerFast

    return PreparedCorpus(
        tokenizer=BertTokenizerFast.from_pretrained(str(folder / "tokenizer")),
        train=PairDataset.load(folder / "train.npz"),
        validation=PairDataset.load(folder / "validation.npz"),
        statistics=json.loads((folder / "statistics.json").read_text()),
    )


@contextmanager
def _all_cores() -> Iterator[None]:
    """Lets `tokenizers` use every core, whatever TOKENIZERS_PARALLELISM says outside."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
