"""configs/resnet50 against the paper: section 7.2 and appendix G, copied here by hand."""

from typing import Any

import pytest
import torch

from sift_trainer.reproduction.configuration import parse_config
from sift_trainer.reproduction.resnet.arguments import KINDS, Settings, check
from sift_trainer.reproduction.resnet.model import EarlyExitResNetForImageClassification
from sift_trainer.selection.schedule import num_candidates, should_sift
from tests.reproduction.resnet.toy import RESNET50

RATES = [5e-2, 1e-2, 5e-3, 1e-3]  # the rows of each table
IMAGES = {"cifar100": 50_000, "food101": 75_750}  # training images
TABLES = {2: "cifar100", 3: "cifar100", 4: "food101", 5: "food101"}


def runs_of(number: int) -> dict[str, Settings]:
    flags = ["--bf16", "false", "--report_to", "none"]  # what this machine may not compute
    config = parse_config(KINDS, ["--config", str(RESNET50 / f"table_{number}.yaml"), *flags])
    check(config)
    return {name: Settings(*run) for name, run in config.runs.items()}


@pytest.mark.parametrize("number", TABLES)
def test_a_table_has_every_row_and_column(number: int) -> None:
    """ "Baseline | SIFT w/ early exit | SIFT w/ last layer exit" at four values of max_lr."""
    suffix, reference = ("_same_time", "baseline") if number in (2, 4) else ("", None)
    expected = {}
    for rate in RATES:
        folder = f"learning_rate_{rate}"
        expected[f"{folder}/baseline"] = (rate, 1, None, None)
        expected[f"{folder}/early_exit{suffix}"] = (rate, 0.5, 1, reference)
        expected[f"{folder}/last_exit{suffix}"] = (rate, 0.5, -1, reference)
    found = {
        name: (
            run.args.learning_rate,
            run.args.sift_keep_ratio,
            run.args.sift_exit_layer if run.args.sift_keep_ratio < 1 else None,
            run.duration.same_time_as,
        )
        for name, run in runs_of(number).items()
    }
    assert found == expected


@pytest.mark.parametrize("number", TABLES)
def test_what_the_paper_says_of_all_of_them(number: int) -> None:
    dataset = TABLES[number]
    for name, run in runs_of(number).items():
        args: Any = run.args
        assert run.images.dataset == dataset
        # "the baseline batch size is 125", "gross batch size of SIFT is 250", "top 50%"
        assert args.per_device_train_batch_size == 125
        assert args.gradient_accumulation_steps == 1
        if args.sift_keep_ratio < 1:
            assert num_candidates(125, args.sift_keep_ratio) == 250
            assert args.sift_criterion == "loss"
            assert args.sift_selector == "top_k"
            schedule = args.sift_warmup_steps, args.sift_cooldown_steps, args.sift_interval
            assert all(should_sift(step, args.max_steps, *schedule) for step in (0, 1, 39_999))
        # "train each algorithm for 100 epochs"
        assert args.max_steps == 100 * IMAGES[dataset] / 125, name
        # "default values of beta_1 and beta_2 for AdamW and set the weight decay = 5e-4"
        assert args.optim in ("adamw_torch", "adamw_torch_fused")
        assert args.weight_decay == 5e-4
        # evaluated and logged at the last step, or there is no last accuracy
        assert args.max_steps % args.eval_steps == 0
        assert args.eval_steps % args.logging_steps == 0


@pytest.mark.parametrize("number", [2, 4])
def test_the_model_is_a_resnet_50(number: int) -> None:
    run = next(iter(runs_of(number).values()))
    with torch.device("meta"):
        model = EarlyExitResNetForImageClassification(run.model.config(num_labels=100))
    parameters = sum(p.numel() for p in model.parameters())
    # He et al. (2016): 25.6 M with 1,000 classes; 2,048 + 1 weights less for each of 900, and
    # 51,300 more for the intermediate classifier. The small stem has 64 x 3 x (49 - 9) less.
    imagenet = 25_557_032 - 900 * 2049 + 51_300
    assert parameters == imagenet - (64 * 3 * 40 if run.model.stem == "cifar" else 0)
