"""Prepared once, the same whatever the processes, jobs and order of files; never another's."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sift_trainer.data.text import preparation as module
from sift_trainer.data.text.corpus import CorpusArguments, load_corpus
from sift_trainer.data.text.preparation import ShareArguments, prepare_corpus
from sift_trainer.data.text.sources import Sources
from tests.data.small_corpus import DOCUMENTS, arguments, arrow_files, prepared, rows

ROOT = Path(__file__).parents[2]


def test_rows_are_pairs_of_the_documents_and_statistics_count_them(
    files: list[str], tmp_path: Path
) -> None:
    corpus = prepared(arguments(files, tmp_path / "a"))
    numbers, tokenizer = corpus.statistics, corpus.tokenizer
    assert len(tokenizer) == numbers["vocab_size"] == 120
    documents = numbers["train_documents"] + numbers["validation_documents"]
    assert documents == len(DOCUMENTS) == 300  # equal documents once
    assert numbers["train_documents_of_mine"] == numbers["train_documents"]
    assert numbers["train_rows"] == len(corpus.train)
    assert numbers["shards"] == 4 + 1
    for split in rows(corpus):
        for row in split:
            ids = row["input_ids"]
            assert len(ids) <= 32
            assert ids[0] == tokenizer.cls_token_id
            assert ids[-1] == tokenizer.sep_token_id
            assert ids.count(tokenizer.sep_token_id) == 2
            assert tokenizer.unk_token_id not in ids


def test_no_document_is_on_both_sides(files: list[str], tmp_path: Path) -> None:
    """Every document names itself with a triple that no other has."""
    args = arguments(files, tmp_path / "a", max_length=500, random_next_fraction=0.0)
    corpus = prepared(args)

    def triples(split: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
        found = set()
        for row in split:
            for sentence in corpus.tokenizer.decode(row["input_ids"]).split("."):
                words = sentence.split()
                if "the" in words:
                    start = words.index("the")
                    if len(words) - start >= 7:
                        found.add((words[start + 1], words[start + 2], words[-1]))
        return found

    train, validation = map(triples, rows(corpus))
    assert len(train) + len(validation) == 300
    assert not train & validation


def test_the_same_whatever_the_processes_jobs_order_and_moment(
    files: list[str], tmp_path: Path, tokenizer: str
) -> None:
    one = tmp_path / "one"
    expected = rows(prepared(arguments(files, one, tokenizer=tokenizer)))
    two = tmp_path / "two"
    prepared(arguments(files, two, tokenizer=tokenizer), num_proc=2)
    assert arrow_files(two) == arrow_files(one)
    jobs = tmp_path / "jobs"
    args = arguments(files, jobs, tokenizer=tokenizer)
    for index in (2, 0):
        prepare_corpus(args, ShareArguments(shard_index=index, num_shards=3), progress=False)
    with pytest.raises(ValueError, match=r"2 of 5 shards are not there yet.*goes on"):
        load_corpus(args)
    prepare_corpus(args, ShareArguments(shard_index=1, num_shards=3), progress=False)
    assert arrow_files(jobs) == arrow_files(one)
    backwards = prepared(arguments(files[::-1], tmp_path / "backwards", tokenizer=tokenizer))
    assert rows(backwards) == expected
    assert not [path for path in jobs.iterdir() if path.name.startswith(".spool")]


def test_seed_and_length_change_rows_but_never_the_split(
    files: list[str], tmp_path: Path, tokenizer: str
) -> None:
    first = prepared(arguments(files, tmp_path / "a", tokenizer=tokenizer))
    for more in ({"corpus_seed": 1}, {"max_length": 24}, {"shards": 2}):
        other = prepared(arguments(files, tmp_path / str(more), tokenizer=tokenizer, **more))
        assert rows(other)[0] != rows(first)[0]
        for name in ("train_documents", "validation_documents", "train_text_bytes"):
            assert other.statistics[name] == first.statistics[name]


def test_a_run_whose_settings_disagree_is_told_which(files: list[str], tmp_path: Path) -> None:
    args = arguments(files, tmp_path / "a")
    prepared(args)
    changed = replace(args, max_length=64, sources=Sources({"other": {"files": files}}))
    for act in (load_corpus, prepare_corpus):
        with pytest.raises(ValueError, match="was prepared with other settings") as refused:
            act(changed)
        assert "max_length: prepared with 32, asked for 64" in str(refused.value)
        assert "sources: prepared with {'mine'" in str(refused.value)
    with pytest.raises(ValueError, match=r"shards=7: the preparation in .* was begun with 4"):
        prepare_corpus(replace(args, shards=7))
    with pytest.raises(ValueError, match="there is no prepared corpus; make it with"):
        load_corpus(replace(args, data_dir=str(tmp_path / "nowhere")))


def test_files_that_changed_since_the_beginning_are_refused(
    files: list[str], tmp_path: Path
) -> None:
    args = arguments(files, tmp_path / "a")
    prepared(args)
    (tmp_path / "a" / "train" / "00001.json").unlink()  # as if it had been interrupted
    Path(files[0]).write_text("")
    with pytest.raises(ValueError, match="was begun from other sources"):
        prepare_corpus(args)


def test_another_tokenizer_under_the_same_name_is_refused(
    files: list[str], tmp_path: Path, tokenizer: str
) -> None:
    args = arguments(files, tmp_path / "a", tokenizer=tokenizer)
    prepare_corpus(args, ShareArguments(shard_index=0, num_shards=2), progress=False)
    other = prepared(arguments(files, tmp_path / "other", vocab_size=110)).tokenizer
    other.save_pretrained(tokenizer)
    with pytest.raises(ValueError, match="is not the tokenizer that was asked for"):
        prepare_corpus(args, ShareArguments(shard_index=1, num_shards=2), progress=False)


def test_what_cannot_be_prepared_is_refused(files: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tokenizer='train' needs all of the text"):
        prepare_corpus(arguments(files, tmp_path / "a"), ShareArguments(num_shards=2))
    lonely = arguments(files[:1], tmp_path / "b", shards=1, validation_fraction=1e-9)
    with pytest.raises(ValueError, match=r"validation/00000: .*at least 2 documents; use fewer"):
        prepare_corpus(lonely, progress=False)
    absent = arguments(["nowhere.txt"], tmp_path / "c")
    with pytest.raises(ValueError, match="nothing there"):
        prepare_corpus(absent)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"max_length": 7}, "max_length=7"),
        ({"corpus_seed": -1}, "corpus_seed=-1"),
        ({"validation_fraction": 0.0}, "validation_fraction=0"),
        ({"random_next_fraction": 2}, "random_next_fraction=2"),
        ({"short_fraction": -1}, "short_fraction=-1"),
        ({"shards": 0}, "shards=0"),
        ({"sources": {}}, "name at least one"),
    ],
)
def test_settings_out_of_range_are_refused_at_construction(
    changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        arguments(["a.txt"], None, **changed)


@pytest.mark.parametrize(
    ("share", "message"),
    [
        ({"num_proc": 0}, "num_proc=0"),
        ({"shard_index": 2, "num_shards": 2}, "shard_index=2 must be in 0..1"),
    ],
)
def test_shares_out_of_range_are_refused(share: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShareArguments(**share)


def test_shards_are_counted_from_the_size_of_the_text(files: list[str], tmp_path: Path) -> None:
    big = tmp_path / "big.jsonl"
    with big.open("wb") as file:
        file.truncate(200_000_000)  # a hole on the disk: only its size is read
    counted = module._count_shards(arguments([str(big)], None, shards=None))
    assert counted.train == round(200e6 / module.SHARD_BYTES)
    assert counted.validation == round(counted.train * 0.2)


def test_parallelism_of_the_tokenizer_is_put_back(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    prepared(arguments(files, tmp_path / "a"))
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    prepared(arguments(files, tmp_path / "b"))
    assert "TOKENIZERS_PARALLELISM" not in os.environ


REAL = ROOT.parent / "shared" / "data"


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason="the real text is not beside the checkout")
def test_real_articles_and_novels_with_the_bert_vocabulary(tmp_path: Path) -> None:
    args = CorpusArguments(
        sources=Sources(
            {
                "wikipedia": {"files": str(REAL / "wikipedia" / "wikipedia-07.jsonl.xz")},
                "books": {"files": str(REAL / "books" / "books-02.jsonl.xz"), "wrapped": True},
            }
        ),
        tokenizer=str(REAL / "bert-base-uncased"),
        validation_fraction=0.05,
        data_dir=str(tmp_path),
    )
    prepare_corpus(args, ShareArguments(num_proc=2), progress=False)
    corpus = load_corpus(args)
    numbers = corpus.statistics
    assert numbers["vocab_size"] == 30522
    assert numbers["train_documents_of_wikipedia"] > 500
    assert numbers["train_documents_of_books"] > 20
    lengths = [len(corpus.train[i]["input_ids"]) for i in range(0, len(corpus.train), 97)]
    assert max(lengths) == 128
    assert sum(length == 128 for length in lengths) > 0.75 * len(lengths)
    unknown = [corpus.train[i]["input_ids"].count(100) for i in range(0, len(corpus.train), 97)]
    assert sum(unknown) < 0.002 * sum(lengths)
    assert 0.5 <= numbers["train_random_next"] / numbers["train_rows"] < 0.6
