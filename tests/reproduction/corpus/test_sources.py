"""Documents from files of every kind and from a hub's repository, and what is refused."""

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from sift_trainer.reproduction.corpus.sources import Source, documents, parts, read_sources

TEXTS = ["One sentence. Another.", "Zwei\nZeilen, naïve.", "Drei."]


def read(source: Source) -> list[str]:
    return [text for part in parts(source) for text in documents(part)]


def json_lines(texts: list[str], column: str = "text") -> bytes:
    return "".join(json.dumps({column: text, "id": 1}) + "\n" for text in texts).encode()


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)],
)
def test_json_lines_plain_and_compressed(tmp_path: Path, suffix: str, compress: Any) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(compress(json_lines(TEXTS)))
    assert read(Source(files=str(path))) == TEXTS


def test_parquet_with_a_column_of_another_name(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"content": TEXTS}), tmp_path / "a.parquet")
    assert read(Source(files=str(tmp_path / "a.parquet"), column="content")) == TEXTS
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read \(column='text'\)"):
        read(Source(files=str(tmp_path / "a.parquet")))


def test_text_files_are_a_document_each(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first\nstill first\n\nsecond")
    (tmp_path / "b.txt").write_text("third")
    whole = read(Source(files=str(tmp_path)))
    assert [text.strip() for text in whole] == ["first\nstill first\n\nsecond", "third"]


def test_rows_that_are_sentences_make_documents(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines([f"Sentence {i}." for i in range(5)]))
    source = Source(files=str(tmp_path / "a.jsonl"), rows_per_document=3)
    assert read(source) == ["Sentence 0.\nSentence 1.\nSentence 2.", "Sentence 3.\nSentence 4."]


def test_wrapped_lines_are_joined_within_paragraphs(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines(["It was the\nbest of\ntimes.\n\n\nIt was"]))
    source = Source(files=str(tmp_path / "a.jsonl"), wrapped=True)
    assert read(source) == ["It was the best of times.\nIt was"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"text": "fine"}\n{"text": broken\n'),
        ("a.jsonl", b'{"text": "fine"}\n{"text": null}\n'),
        ("a.jsonl.xz", lzma.compress(json_lines(TEXTS * 500))[:-30]),
        ("a.jsonl.gz", b"no gzip at all"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} cannot be read"):
        read(Source(files=str(tmp_path / name)))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "give at least one"),
        ({"a": {"files": "x", "hub": "y"}}, "sources.a: needs exactly one of files, hub and"),
        ({"a": {"hub": "x", "trust_remote_code": True}}, "unexpected .* 'trust_remote_code'"),
    ],
)
def test_wrong_entries_are_named(entries: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_sources(entries)


def test_a_hub_data_set_is_read_in_parts_that_are_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder laid out like a repository of the hub, which `datasets` reads likewise."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "repository"
    (repository / "20231101.en").mkdir(parents=True)
    (repository / "README.md").write_text(
        "---\nconfigs:\n- config_name: 20231101.en\n  data_files: 20231101.en/*.parquet\n---\n"
    )
    for part in range(3):
        table = pa.table({"id": [1, 2], "text": [f"First of {part}.", f"Second of {part}."]})
        pyarrow.parquet.write_table(table, repository / "20231101.en" / f"train-{part}.parquet")
    source = Source(hub=str(repository), name="20231101.en")
    assert len(parts(source)) == 3
    assert sorted(read(source)) == sorted(
        f"{place} of {part}." for part in range(3) for place in ("First", "Second")
    )
    with pytest.raises(ValueError, match=r"(?s)cannot be loaded.*sources: \{mine: \{files"):
        parts(Source(hub=str(repository), name="20231101.de"))
