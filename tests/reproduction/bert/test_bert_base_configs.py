"""configs/bert_base against the paper: section 7.1, Table 1 and appendix F, copied here by hand."""

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml
from transformers import BertConfig, BertForPreTraining, get_scheduler

from sift_trainer.reproduction.bert.arguments import KINDS, Settings
from sift_trainer.reproduction.configuration import load_yaml, parse_config
from sift_trainer.selection.schedule import num_candidates, should_sift

FOLDER = Path(__file__).parents[3] / "configs" / "bert_base"

# Table 1: criteria and exit layers.
TABLE_1 = {"baseline": {"sift_keep_ratio": 1.0}} | {
    f"{criterion}_exit_{layer}": {"sift_criterion": criterion, "sift_exit_layer": layer}
    for criterion in ("loss", "entropy")
    for layer in (1, 2, 3, 6, 12)
}

# "learning rate = 1e-4, l2 weight decay = 0.01, beta_1 = 0.9 and beta_2 = 0.999 ... warmup was over
# the first 0.2% of total steps followed by linear decay"; "update steps for each algorithm is 800K"
TRAINING = {
    "learning_rate": 1e-4,
    "weight_decay": 0.01,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "lr_scheduler_type": "linear",
    "max_steps": 800_000,
    "per_device_train_batch_size": 32,
    "gradient_accumulation_steps": 1,
    "sift_selector": "top_k",
}
# "12 layers with a hidden dimension of 768", "512 as the maximum sequence length", "a dropout
# probability of 0.1 on all the layers", "the GELU activation"
MODEL = {
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "max_position_embeddings": 512,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
}
VOCABULARY = 30_522  # of bert-base-uncased


def row(name):
    """Model and training arguments of a row, by the parser that a run uses."""
    # This machine may have no bf16.
    flags = ["--config", str(FOLDER / f"{name}.yaml"), "--bf16", "false", "--report_to", "none"]
    (instances,) = parse_config(KINDS, flags).runs.values()
    settings = Settings(*instances)
    return settings.model, settings.args


def test_there_is_a_file_for_each_row_and_no_other():
    assert {path.stem for path in FOLDER.iterdir()} == {*TABLE_1, "base"}


@pytest.mark.parametrize("name", TABLE_1)
def test_a_row_has_the_numbers_of_the_paper_and_differs_only_in_what_it_is_named_after(name):
    written = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    assert written == {"base": "base.yaml", **TABLE_1[name]}
    _, args = row(name)
    expected = TRAINING | TABLE_1[name]
    assert {key: getattr(args, key) for key in expected} == expected
    drawn = num_candidates(args.per_device_train_batch_size, args.sift_keep_ratio)
    assert drawn == (32 if name == "baseline" else 64)


def test_the_model_and_the_schedules_of_the_paper():
    """No filtering "for the first 20K steps"; warm-up over the first 1,600 steps."""
    model_args, args = row("loss_exit_1")
    config = BertConfig(vocab_size=VOCABULARY, **dataclasses.asdict(model_args))
    assert {key: getattr(config, key) for key in MODEL} == MODEL
    with torch.device("meta"):
        model = BertForPreTraining(config)
    assert model.num_parameters() == pytest.approx(110e6, rel=0.01)
    schedule = args.sift_warmup_steps, args.sift_cooldown_steps, args.sift_interval
    sifts = [should_sift(step, 800_000, *schedule) for step in (19_999, 20_000, 799_999)]
    assert sifts == [False, True, True]
    assert args.get_warmup_steps(args.max_steps) == 1600
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
    (factor,) = get_scheduler(args.lr_scheduler_type, optimizer, 1600, args.max_steps).lr_lambdas
    assert [factor(step) for step in (800, 1600, 400_800, 800_000)] == [0.5, 1.0, 0.5, 0.0]


def test_the_data_of_the_paper():
    base = load_yaml(FOLDER / "base.yaml")
    assert base["max_length"] == 512
    assert base["mask_probability"] == 0.15
    assert base["tokenizer"].endswith("bert-base-uncased")
    assert base["world_size"] * base["per_device_train_batch_size"] * base["max_length"] == 131_072
    assert base["bf16"] is True
    assert set(base["sources"]) == {"wikipedia", "books"}
