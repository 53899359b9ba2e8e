"""scripts/prepare_corpus.py, and a training run that reads what it left."""

import json
import os
import subprocess
import sys

import pytest

from sift_trainer.config import ConfigError
from sift_trainer.pretraining import main, prepare
from tests.pretraining.toy import ROOT, TINY, flags, on_a_file


@pytest.fixture
def texts(tmp_path):
    """Flags for the quickstart's configuration on a file of its own, prepared beforehand."""
    return on_a_file(tmp_path, 200)


def training(tmp_path, **more):
    values = {**TINY, "output_dir": tmp_path / "out", "use_cpu": "true", **more}
    return flags(**values, prepare="false", runs="loss")


def test_training_reads_what_was_prepared_from_the_same_file(texts, tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"there is no prepared corpus; make it with"):
        main([*texts, *training(tmp_path)])
    prepare([*texts, "--num_proc", "2"])
    assert str(tmp_path / "corpus") in capsys.readouterr().out
    (run,) = main([*texts, *training(tmp_path)])
    assert run.final.spent.step == TINY["max_steps"]
    start = json.loads((tmp_path / "out" / "loss" / "log.jsonl").read_text().splitlines()[0])
    assert start["corpus"]["statistics"]["train_documents"] > 150
    assert start["corpus"]["sources"]["mine"]["files"] == str(tmp_path / "texts.jsonl")


def test_training_on_another_corpus_than_its_config_says_is_refused(texts, tmp_path):
    prepare(texts)
    with pytest.raises(ConfigError, match="max_length: prepared with 64, asked for 32"):
        main([*texts, *training(tmp_path, max_length=32)])


def test_training_on_a_corrupt_shard_names_it(texts, tmp_path):
    prepare(texts)
    shard = next((tmp_path / "corpus" / "train").glob("*.arrow"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{shard.name} is corrupt"):
        main([*texts, *training(tmp_path)])


def test_the_script_without_a_network_says_how_to_use_files(tmp_path):
    sources = json.dumps({"wikipedia": {"hub": "wikimedia/wikipedia", "name": "20231101.en"}})
    command = [sys.executable, str(ROOT / "scripts" / "prepare_corpus.py")]
    done = subprocess.run(
        [*command, *flags(sources=sources, data_dir=tmp_path / "corpus")],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "error: hub='wikimedia/wikipedia'" in done.stderr
    assert "sources: {mine: {files: folder/*.parquet}}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--num_shards", "2"], "tokenizer='train' needs all of the text"),
        (["--max_lenght", "64"], "unknown argument '--max_lenght'; did you mean '--max_length'"),
    ],
)
def test_wrong_flags_are_named(texts, extra, message):
    with pytest.raises(ConfigError, match=message):
        prepare([*texts, *extra])
