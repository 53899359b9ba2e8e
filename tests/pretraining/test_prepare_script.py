"""A corpus that is prepared beforehand, and a training run that reads it."""

import json

import pytest

from sift_trainer.reproduction.bert import main, prepare
from sift_trainer.reproduction.configuration import ConfigError
from tests.pretraining.toy import TINY, flags, on_a_file


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


def test_wrong_flags_are_named(texts):
    with pytest.raises(ConfigError, match="'--max_lenght'; did you mean '--max_length'"):
        prepare([*texts, "--max_lenght", "64"])
    with pytest.raises(ConfigError, match="tokenizer='train' needs all of the text"):
        prepare([*texts, "--num_shards", "2"])
