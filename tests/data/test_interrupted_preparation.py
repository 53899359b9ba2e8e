"""Killed, begun twice or started wrongly: what is whole is kept, and nothing half is read."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sift_trainer.data.text import preparation as module
from sift_trainer.data.text import workers
from sift_trainer.data.text.corpus import Corpus, folder_of
from sift_trainer.data.text.preparation import ShareArguments, prepare_corpus
from tests.data.small_corpus import (
    arguments,
    arrow_files,
    prepared,
    rows,
)

ROOT = Path(__file__).parents[2]


def test_a_killed_preparation_goes_on_where_it_stopped(
    files: list[str], tmp_path: Path, tokenizer: str
) -> None:
    """A real SIGKILL of a real process, after its second shard."""
    whole = prepared(arguments(files, tmp_path / "whole", tokenizer=tokenizer))
    folder = tmp_path / "killed"
    script = tmp_path / "prepare.py"
    script.write_text(
        "import json, os, signal, sys\n"
        "from sift_trainer.data.text import packing, preparation\n"
        "from sift_trainer.data.text.corpus import CorpusArguments\n"
        "from sift_trainer.data.text.sources import Sources\n"
        "settings = json.loads(sys.argv[1])\n"
        "settings['sources'] = Sources(settings['sources'])\n"
        "written = []\n"
        "write = packing.write_shard\n"
        "def counting(path, *rest):\n"
        "    if len(written) == 2:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(path, *rest)\n"
        "    written.append(path)\n"
        "packing.write_shard = counting\n"
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
        broken.setattr(module, "write_pairs", _die)
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
        "from sift_trainer.data.text.corpus import CorpusArguments\n"
        "from sift_trainer.data.text.preparation import ShareArguments, prepare_corpus\n"
        "from sift_trainer.data.text.sources import Sources\n"
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
    with workers.alone(tmp_path / "a" / ".lock-0-of-1"):
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


def test_a_spool_that_was_made_for_one_shard_serves_for_others(
    files: list[str], tmp_path: Path, tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard is made again, that is interrupted, and meanwhile another one is lost."""
    folder = tmp_path / "a"
    args = arguments(files, folder, tokenizer=tokenizer)
    prepared(args)
    before = arrow_files(folder)
    (folder / "train" / "00001.json").unlink()
    with monkeypatch.context() as broken:
        broken.setattr(module, "write_pairs", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare_corpus(args, progress=False)
    for shard in ("train/00003", "validation/00000"):
        (folder / f"{shard}.json").unlink()
        (folder / f"{shard}.arrow").unlink()
    prepared(args)
    assert arrow_files(folder) == before


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
