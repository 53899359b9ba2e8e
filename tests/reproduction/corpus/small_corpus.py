"""A corpus of 300 short documents in three files, and its preparation in a moment."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sift_trainer.reproduction.corpus.corpus import Corpus, CorpusArguments, load_corpus
from sift_trainer.reproduction.corpus.preparation import ShareArguments, prepare_corpus
from sift_trainer.reproduction.corpus.sources import Sources

NAMES = "reader writer buffer signal filter matrix kernel tensor loader parser"
VERBS = "opens closes copies moves reads writes counts sorts splits joins"
DOCUMENTS = [
    " ".join(f"The {a} {v} the {b} number {len(v)} {c}." for b in NAMES.split() if b != a)
    for a in NAMES.split()
    for v in VERBS.split()
    for c in ("once", "twice", "again")
]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three files, of which the last repeats ten documents of the first."""
    folder = tmp_path / "texts"
    folder.mkdir()
    parts = [DOCUMENTS[:100], DOCUMENTS[100:180], DOCUMENTS[180:] + DOCUMENTS[:10]]
    paths = [folder / f"{number}.jsonl" for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
    return [str(path) for path in paths]


def arguments(files: list[str], folder: Path | None, **more: Any) -> CorpusArguments:
    settings: dict[str, Any] = {
        "sources": Sources({"mine": {"files": files}}),
        "vocab_size": 120,
        "max_length": 32,
        "validation_fraction": 0.2,
        "shards": 4,
        "data_dir": None if folder is None else str(folder),
    }
    return CorpusArguments(**{**settings, **more})


def prepared(args: CorpusArguments, **share: int) -> Corpus:
    prepare_corpus(args, ShareArguments(**share), progress=False)
    return load_corpus(args)


def rows(corpus: Corpus) -> list[list[dict[str, Any]]]:
    return [list(split) for split in (corpus.train, corpus.validation)]


def arrow_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.arrow"))
    }


@pytest.fixture
def tokenizer(files: list[str], tmp_path: Path) -> str:
    """A folder with a tokenizer, as jobs that share the work need one."""
    prepared(arguments(files, tmp_path / "first"))
    shutil.copytree(tmp_path / "first" / "tokenizer", tmp_path / "tokenizer")
    return str(tmp_path / "tokenizer")
