"""The pretraining script in two processes under ZeRO-3 trains, evaluates and saves as one job."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForPreTraining, default_data_collator

from sift_trainer import SiftTrainingArguments
from sift_trainer.reproduction.bert import prepare
from sift_trainer.reproduction.bert.arguments import KINDS, Settings
from sift_trainer.reproduction.bert.evaluation import PretrainingTrainer
from sift_trainer.reproduction.bert.job import load_data
from sift_trainer.reproduction.configuration import parse_config
from sift_trainer.reproduction.runs.metrics import pretraining_metrics
from tests.distributed.launch import ROOT, as_by_accelerate
from tests.reproduction.bert.toy import TINY, flags, on_a_file

pytestmark = pytest.mark.distributed

# 31 validation rows on 2 x 4: the last batch is filled up with rows that must not count twice.
SETTINGS = {**TINY, "validation_samples": 31, "per_device_eval_batch_size": 4}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Flags of the quickstart on a corpus that is prepared."""
    argv = on_a_file(tmp_path_factory.mktemp("corpus"), 300)
    prepare(argv)
    return [*argv, *flags(**SETTINGS, prepare="false", use_cpu="true", report_to="none")]


def test_two_processes_report_what_one_finds_in_their_checkpoint(corpus, tmp_path):
    pytest.importorskip("deepspeed")
    config = ROOT / "configs" / "accelerate" / "deepspeed_zero3.yaml"
    printed = as_by_accelerate(
        *("--config_file", config, "--num_processes", 2, "--mixed_precision", "no"),
        *("-m", "tests.distributed.deepspeed_as_it_trains"),
        *(ROOT / "scripts" / "pretrain_bert.py", *corpus),
        *flags(output_dir=tmp_path, world_size=2, save_strategy="steps", save_steps=3),
        *("--runs", "vanilla", "loss"),
    )
    assert (tmp_path / "table.md").is_file(), printed
    for name, drawn in (("vanilla", 1), ("loss", 2)):
        lines = [json.loads(t) for t in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        assert lines[0]["processes"] == 2
        reported = next(line for line in reversed(lines) if "eval_mlm_loss" in line)
        assert reported["step"] == TINY["max_steps"]
        spent = json.loads((tmp_path / name / "results.json").read_text())["run"]["points"][-1]
        samples = TINY["max_steps"] * TINY["per_device_train_batch_size"] * 2
        assert spent["spent"]["backprop_samples"] == samples
        assert spent["spent"]["candidates"] == samples * drawn
        found = evaluate(corpus, tmp_path / name / f"checkpoint-{TINY['max_steps']}")
        for metric, value in found.items():
            assert reported[metric] == pytest.approx(value, rel=1e-5), metric


def evaluate(corpus, checkpoint):
    """The checkpoint's metrics, by one process, all validation rows in one batch."""
    config = parse_config(KINDS, [*corpus, "--output_dir", str(checkpoint.parent)])
    data = load_data(Settings(*config.instances))
    model = BertForPreTraining(BertConfig.from_pretrained(checkpoint))
    weights = load_file(checkpoint / "model.safetensors")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all("decoder" in name for name in missing)  # tied
    model.tie_weights()
    args = SiftTrainingArguments(
        str(checkpoint.parent),
        per_device_eval_batch_size=64,
        batch_eval_metrics=True,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = PretrainingTrainer(
        model,
        args,
        eval_dataset=data.validation,
        data_collator=default_data_collator,
        compute_metrics=pretraining_metrics(),
    )
    with torch.no_grad():
        metrics = trainer.evaluate()
    names = ("mlm_accuracy", "mlm_loss", "mlm_perplexity", "nsp_accuracy")
    return {f"eval_{name}": metrics[f"eval_{name}"] for name in names}
