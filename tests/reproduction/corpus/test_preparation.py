"""A corpus is the same whatever the processes, jobs, order of files and interruptions."""

import json
import os
import signal
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from sift_trainer.reproduction.corpus import preparation as module
from sift_trainer.reproduction.corpus.corpus import CorpusArguments, folder_of, load_corpus
from sift_trainer.reproduction.corpus.preparation import ShareArguments, prepare_corpus
from sift_trainer.reproduction.corpus.sources import Sources
from tests.reproduction.corpus.small_corpus import DOCUMENTS, arguments, arrow_files, prepared, rows

ROOT = Path(__file__).parents[3]


def test_rows_are_pairs_of_the_documents_and_statistics_count_them(
    files: list[str], tmp_path: Path
) -> None:
    corpus = prepared(arguments(files, tmp_path / "a"))
    numbers, tokenizer = corpus.statistics, corpus.tokenizer
    assert len(tokenizer) == numbers["vocab_size"] == 120
    documents = numbers["train_documents"] + numbers["validation_documents"]
    assert documents == len(DOCUMENTS) == 300  # equal documents once
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


def test_the_same_whatever_the_processes_jobs_and_order(
    files: list[str], tmp_path: Path, tokenizer: str
) -> None:
    one, two, jobs = tmp_path / "one", tmp_path / "two", tmp_path / "jobs"
    expected = rows(prepared(arguments(files, one, tokenizer=tokenizer)))
    prepared(arguments(files, two, tokenizer=tokenizer), num_proc=2)
    assert arrow_files(two) == arrow_files(one)
    args = arguments(files, jobs, tokenizer=tokenizer)
    for index in (2, 0):
        prepare_corpus(args, ShareArguments(shard_index=index, num_shards=3), progress=False)
    with pytest.raises(ValueError, match=r"2 of 5 shards are missing.*makes only them"):
        load_corpus(args)
    prepare_corpus(args, ShareArguments(shard_index=1, num_shards=3), progress=False)
    assert arrow_files(jobs) == arrow_files(one)
    backwards = prepared(arguments(files[::-1], tmp_path / "backwards", tokenizer=tokenizer))
    assert rows(backwards) == expected
    assert not [path for path in jobs.iterdir() if path.name.startswith(".spool")]


def test_a_killed_preparation_goes_on_where_it_stopped(
    files: list[str], tmp_path: Path, tokenizer: str
) -> None:
    """A real SIGKILL of a real process, after its second shard."""
    whole = prepared(arguments(files, tmp_path / "whole", tokenizer=tokenizer))
    folder = tmp_path / "killed"
    args = arguments(files, folder, tokenizer=tokenizer)
    child = get_context("fork").Process(target=_prepare_two_shards_and_die, args=(args,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*.arrow")}
    shards = {path for path in before if not path.parent.name.startswith(".spool")}
    assert (len(shards), len(before)) == (2, 2 + len(files))
    assert rows(prepared(args)) == rows(whole)
    assert {path: path.stat().st_mtime_ns for path in shards} == {p: before[p] for p in shards}


def _prepare_two_shards_and_die(args: CorpusArguments) -> None:
    shards = iter(range(2))
    write = module.write_shard

    def write_two(*arguments: Any) -> None:
        if next(shards, None) is None:
            _die()
        write(*arguments)

    module.write_shard = write_two
    prepare_corpus(args, progress=False)


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_finished_preparation_is_not_done_again(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = arguments(files, None, cache_dir=str(tmp_path / "cache"))
    first = prepared(args)
    monkeypatch.setattr(module, "_run_all", _die)
    assert rows(prepared(args)) == rows(first)
    assert folder_of(args).parent == tmp_path / "cache"
    assert folder_of(replace(args, max_length=24)) != folder_of(args)
    Path(files[0]).write_text(Path(files[0]).read_text() + json.dumps({"text": "More."}) + "\n")
    assert not folder_of(args).exists()  # another text is another corpus


def test_another_corpus_in_the_folder_is_refused(
    files: list[str], tmp_path: Path, tokenizer: str
) -> None:
    args = arguments(files, tmp_path / "a", tokenizer=tokenizer)
    prepare_corpus(args, ShareArguments(shard_index=0, num_shards=2), progress=False)
    changed = replace(args, max_length=64, sources=Sources({"other": {"files": files}}))
    for act in (load_corpus, prepare_corpus):
        with pytest.raises(ValueError, match="was prepared with other settings") as refused:
            act(changed)
        assert "max_length: prepared with 32, asked for 64" in str(refused.value)
    with pytest.raises(ValueError, match="there is no prepared corpus; make it with"):
        load_corpus(replace(args, data_dir=str(tmp_path / "nowhere")))
    Path(files[0]).write_text("")
    with pytest.raises(ValueError, match="read: prepared with"):
        prepare_corpus(args, ShareArguments(shard_index=1, num_shards=2))


def test_what_cannot_be_prepared_is_refused(files: list[str], tmp_path: Path) -> None:
    for name, value in (("max_length", 7), ("validation_fraction", 0.0), ("shards", 0)):
        with pytest.raises(ValueError, match=f"{name}={value}"):
            arguments(files, None, **{name: value})
    with pytest.raises(ValueError, match=r"shard_index=2 must be in 0\.\.1"):
        ShareArguments(shard_index=2, num_shards=2)
    with pytest.raises(ValueError, match="tokenizer='train' needs num_shards=1"):
        prepare_corpus(arguments(files, tmp_path / "a"), ShareArguments(num_shards=2))
    with pytest.raises(ValueError, match="use fewer shards or a larger validation_fraction"):
        prepared(arguments(files, tmp_path / "b", validation_fraction=1e-9))
