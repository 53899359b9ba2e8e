"""Every shipped YAML file is loaded and built into its objects."""

from pathlib import Path

import pytest

from sift_trainer.reproduction.configuration import parse_config

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs"
ACCELERATE = sorted((CONFIGS / "accelerate").glob("*.yaml"))
PRETRAINING = [CONFIGS / "quickstart.yaml", *sorted(CONFIGS.glob("bert_*/*.yaml"))]
IMAGES = sorted(CONFIGS.glob("resnet*/*.yaml"))


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
    from sift_trainer.reproduction.bert.arguments import KINDS, Settings, check
    from sift_trainer.reproduction.corpus.corpus import CorpusArguments
    from sift_trainer.reproduction.corpus.preparation import ShareArguments

    # Precision that this machine cannot compute would be refused; it is not what is tested here.
    flags = ["--output_dir", str(tmp_path), "--bf16", "false", "--report_to", "none"]
    config = parse_config(KINDS, ["--config", str(path), *flags])
    check(config)
    for run in map(Settings._make, config.runs.values()):
        assert run.args.batch_eval_metrics
        assert run.args.sift_selector == "top_k"  # the paper's rule
    # The same file serves the script that prepares the corpus.
    own, argv = (CorpusArguments, ShareArguments), ["--config", str(path), "--num_proc", "3"]
    corpus, share = parse_config(own, argv, ignored=KINDS).instances
    assert share.num_proc == 3
    assert corpus == Settings(*config.instances).corpus


@pytest.mark.parametrize("path", IMAGES, ids=relative)
def test_image_classification_config(path, tmp_path):
    from sift_trainer.reproduction.resnet.arguments import KINDS, Settings, check

    flags = ["--output_dir", str(tmp_path), "--bf16", "false", "--report_to", "none"]
    config = parse_config(KINDS, ["--config", str(path), *flags])
    check(config)
    for run in map(Settings._make, config.runs.values()):
        assert run.args.max_steps % run.args.eval_steps == 0
        assert run.args.batch_eval_metrics


def test_no_config_is_left_out():
    """A new folder of configs needs a test of its own."""
    known = {*ACCELERATE, *PRETRAINING, *IMAGES}
    assert {relative(path) for path in CONFIGS.rglob("*.yaml") if path not in known} == set()
