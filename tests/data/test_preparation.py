"""Prepared once, the same whatever the processes and jobs; continued, never half."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sift_trainer.data import preparation as module
from sift_trainer.data.corpus import Corpus, CorpusArguments, folder_of, load_corpus
from sift_trainer.data.preparation import ShareArguments, prepare_corpus
from sift_trainer.data.sources import Sources

ROOT = Path(__file__).parents[2]
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
    return [[split[i] for i in range(len(split))] for split in (corpus.train, corpus.validation)]


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


def test_a_killed_preparation_goes_on_where_it_stopped(
    files: list[str], tmp_path: Path, tokenizer: str
) -> None:
    """A real SIGKILL of a real process, after its second shard."""
    whole = prepared(arguments(files, tmp_path / "whole", tokenizer=tokenizer))
    folder = tmp_path / "killed"
    script = tmp_path / "prepare.py"
    script.write_text(
        "import json, os, signal, sys\n"
        "from sift_trainer.data import preparation\n"
        "from sift_trainer.data.corpus import CorpusArguments\n"
        "from sift_trainer.data.sources import Sources\n"
        "settings = json.loads(sys.argv[1])\n"
        "settings['sources'] = Sources(settings['sources'])\n"
        "written = []\n"
        "write = preparation.write_shard\n"
        "def counting(path, *rest):\n"
        "    if len(written) == 2:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(path, *rest)\n"
        "    written.append(path)\n"
        "preparation.write_shard = counting\n"
        "preparation.prepare_corpus(CorpusArguments(**settings), progress=False)\n"
    )
    args = arguments(files, folder, tokenizer=tokenizer)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(vars(args))], env=environment, check=False
    )
    assert done.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.arrow")}
    assert len(before) == 2
    time.sleep(0.01)
    assert rows(prepared(args)) == rows(whole)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_killed_worker_is_reported_and_nothing_is_lost(
    files: list[str], tmp_path: Path, tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = arguments(files, tmp_path / "a", tokenizer=tokenizer)
    with monkeypatch.context() as broken:
        broken.setattr(module, "_write_pairs", _die)
        with pytest.raises(RuntimeError, match=r"a process was killed while packing.*is kept"):
            prepare_corpus(args, ShareArguments(num_proc=2), progress=False)
    assert len(prepared(args, num_proc=2).train)


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_script_without_a_main_guard_is_told_so_and_does_not_hang(
    files: list[str], tmp_path: Path, tokenizer: str
) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import json, sys\n"
        "from sift_trainer.data.corpus import CorpusArguments\n"
        "from sift_trainer.data.preparation import ShareArguments, prepare_corpus\n"
        "from sift_trainer.data.sources import Sources\n"
        "settings = json.loads(sys.argv[1])\n"
        "settings['sources'] = Sources(settings['sources'])\n"
        "prepare_corpus(CorpusArguments(**settings), ShareArguments(num_proc=2), progress=False)\n"
    )
    args = arguments(files, tmp_path / "a", tokenizer=tokenizer)
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(vars(args))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert 'write the call under if __name__ == "__main__":' in done.stderr
    assert len(prepared(args).train)


def test_two_at_once_wait_for_each_other(
    files: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    args = arguments(files, tmp_path / "a")
    done: list[Corpus] = []
    (tmp_path / "a").mkdir()
    with module._alone(tmp_path / "a" / ".lock-0-of-1"):
        other = threading.Thread(target=lambda: done.append(prepared(args)))
        other.start()
        while other.is_alive() and "waiting for another process" not in caplog.text:
            time.sleep(0.01)
        assert other.is_alive()
        assert not done
    other.join()
    assert len(done[0].train)


def test_a_finished_preparation_is_not_done_again(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = arguments(files, None, cache_dir=str(tmp_path / "cache"))
    first = prepared(args)
    monkeypatch.setattr(module, "_make", _die)
    assert rows(prepared(args)) == rows(first)
    assert folder_of(args).parent == tmp_path / "cache"
    assert folder_of(replace(args, max_length=24)) != folder_of(args)
    Path(files[0]).write_text(Path(files[0]).read_text() + json.dumps({"text": "More."}) + "\n")
    assert not folder_of(args).exists()  # another text is another corpus


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
