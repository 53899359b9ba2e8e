"""configs/bert_base against the paper: section 7.1, Table 1 and appendix F, copied here by hand."""

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml
from transformers import BertConfig, BertForPreTraining, get_scheduler

from sift_trainer import SiftTrainingArguments
from sift_trainer.config import load_yaml, parse_config
from sift_trainer.pretraining.arguments import ModelArguments
from sift_trainer.selection.schedule import num_candidates, should_sift

FOLDER = Path(__file__).parents[2] / "configs" / "bert_base"

# "Algorithm | SIFT Layer #" of Table 1.
TABLE_1 = {
    "baseline": {"sift_keep_ratio": 1.0},
    "loss_exit_1": {"sift_criterion": "loss", "sift_exit_layer": 1},
    "loss_exit_2": {"sift_criterion": "loss", "sift_exit_layer": 2},
    "loss_exit_3": {"sift_criterion": "loss", "sift_exit_layer": 3},
    "loss_exit_6": {"sift_criterion": "loss", "sift_exit_layer": 6},
    "loss_exit_12": {"sift_criterion": "loss", "sift_exit_layer": 12},
    "entropy_exit_1": {"sift_criterion": "entropy", "sift_exit_layer": 1},
    "entropy_exit_2": {"sift_criterion": "entropy", "sift_exit_layer": 2},
    "entropy_exit_3": {"sift_criterion": "entropy", "sift_exit_layer": 3},
    "entropy_exit_6": {"sift_criterion": "entropy", "sift_exit_layer": 6},
    "entropy_exit_12": {"sift_criterion": "entropy", "sift_exit_layer": 12},
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


@pytest.fixture(params=TABLE_1)
def row(request, tmp_path):
    """Name, model arguments and training arguments of a row, by the parser that a run uses."""
    kinds = (ModelArguments, SiftTrainingArguments)
    fields = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    content = load_yaml(FOLDER / f"{request.param}.yaml")
    known = tmp_path / f"{request.param}.yaml"
    known.write_text(yaml.safe_dump({k: v for k, v in content.items() if k in fields}))
    # This machine may have no bf16, nor a reporter; neither is what is tested here.
    flags = ["--config", str(known), "--bf16", "false", "--report_to", "none"]
    config = parse_config(kinds, flags)
    assert list(config.runs) == [request.param]
    return request.param, *config.runs[request.param]


def test_there_is_a_file_for_each_row_and_no_other():
    assert {path.stem for path in FOLDER.iterdir()} == {*TABLE_1, "base"}


@pytest.mark.parametrize("name", TABLE_1)
def test_a_row_differs_from_the_others_only_in_what_it_is_named_after(name):
    written = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    assert written == {"base": "base.yaml", **TABLE_1[name]}


def test_what_the_rows_share_has_neither_criterion_nor_exit():
    assert not {"sift_criterion", "sift_exit_layer", "runs"} & set(load_yaml(FOLDER / "base.yaml"))


def test_each_row_has_the_numbers_of_the_paper(row):
    name, _, args = row
    assert {key: getattr(args, key) for key in TRAINING} == TRAINING
    for key, value in TABLE_1[name].items():
        assert getattr(args, key) == value


def test_each_row_builds_the_model_of_the_paper(row):
    _, model_args, _ = row
    config = BertConfig(vocab_size=VOCABULARY, **dataclasses.asdict(model_args))
    assert {key: getattr(config, key) for key in MODEL} == MODEL
    with torch.device("meta"):
        model = BertForPreTraining(config)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(110e6, rel=0.01)


def test_each_row_draws_keeps_and_begins_as_in_the_paper(row):
    """ "The micro-batch per GPU is set to 64 sequences ... the effective batch size per GPU is 32";
    no filtering "for the first 20K steps"."""
    name, _, args = row
    sifts = name != "baseline"
    drawn = num_candidates(args.per_device_train_batch_size, args.sift_keep_ratio)
    assert drawn == (64 if sifts else 32)
    schedule = args.sift_warmup_steps, args.sift_cooldown_steps, args.sift_interval
    assert [should_sift(step, 800_000, *schedule) for step in (0, 19_999, 20_000, 799_999)] == [
        False,
        False,
        True,
        True,
    ]


def test_each_row_warms_up_over_its_first_1600_steps(row):
    _, _, args = row
    assert args.get_warmup_steps(args.max_steps) == 1600
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
    schedule = get_scheduler(args.lr_scheduler_type, optimizer, 1600, args.max_steps)
    (factor,) = schedule.lr_lambdas
    assert [factor(step) for step in (800, 1600, 800_000)] == [0.5, 1.0, 0.0]
    assert factor(1600 + 399_200) == 0.5  # half of what is left


def test_the_data_of_the_paper():
    base = load_yaml(FOLDER / "base.yaml")
    assert base["max_length"] == 512
    assert base["mask_probability"] == 0.15
    assert base["tokenizer"].endswith("bert-base-uncased")
    assert base["world_size"] * base["per_device_train_batch_size"] * base["max_length"] == 131_072
    assert base["bf16"] is True
    assert set(base["sources"]) == {"wikipedia", "books"}


def test_logs_fall_on_evaluations_and_on_the_step_where_sifting_begins():
    base = load_yaml(FOLDER / "base.yaml")
    assert base["eval_steps"] % base["logging_steps"] == 0
    assert base["sift_warmup_steps"] % base["logging_steps"] == 0
    assert base["max_steps"] % base["eval_steps"] == 0
    assert base["max_steps"] % base["save_steps"] == 0
