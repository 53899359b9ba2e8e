"""Every YAML file that is shipped is loaded, and built into the objects that it describes."""

from pathlib import Path

import pytest

from sift_trainer.config import load_yaml, parse_config

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
ACCELERATE = sorted((CONFIGS / "accelerate").glob("*.yaml"))
PRETRAINING = [CONFIGS / "quickstart.yaml", *sorted((CONFIGS / "bert_base").glob("*.yaml"))]


def relative(path):
    return str(path.relative_to(CONFIGS))


@pytest.mark.parametrize("path", ACCELERATE, ids=relative)
def test_accelerate_config(path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert config.num_processes >= 1
    assert config.mixed_precision in ("no", "bf16", "fp16")


@pytest.mark.parametrize("path", PRETRAINING, ids=relative)
def test_pretraining_config(path, tmp_path):
    from sift_trainer import SiftTrainingArguments
    from sift_trainer.pretraining import DataArguments, ModelArguments, check

    kinds = (ModelArguments, DataArguments, SiftTrainingArguments)
    # Precision that this machine cannot compute would be refused; it is not what is tested here.
    flags = ["--output_dir", str(tmp_path), "--bf16", "false", "--report_to", "none"]
    config = parse_config(kinds, ["--config", str(path), *flags])
    check(config)
    for model_args, data_args, args in config.runs.values():
        assert data_args.max_length <= model_args.max_position_embeddings
        assert args.batch_eval_metrics


def test_the_quickstart_compares_three_runs():
    runs = load_yaml(CONFIGS / "quickstart.yaml")["runs"]
    assert list(runs) == ["vanilla", "loss", "entropy"]
    assert runs["vanilla"]["sift_keep_ratio"] == 1.0


def test_no_config_is_left_out():
    """A new folder of configs needs a test of its own."""
    known = {*ACCELERATE, *PRETRAINING}
    assert {relative(path) for path in CONFIGS.rglob("*.yaml") if path not in known} == set()
