"""The image runs of a configuration, in this process: tables, time, resuming, bad input."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sift_trainer.reproduction.configuration import ConfigError
from sift_trainer.reproduction.images import load_images
from sift_trainer.reproduction.resnet import main
from sift_trainer.reproduction.resnet.arguments import ImageArguments
from sift_trainer.reproduction.resnet.job import IMAGE_CLASSIFICATION
from sift_trainer.reproduction.resnet.model import EarlyExitResNetForImageClassification
from tests.reproduction.bert.toy import flags
from tests.reproduction.resnet.toy import BATCH, CLASSES, STEPS, table, tiny

torch.set_num_threads(1)

RATES = [5e-3]
CELLS = [f"learning_rate_{rate}" for rate in RATES]


def logged(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(text) for text in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "log"]


def evaluated(folder: Path) -> list[tuple[int, float, float]]:
    return [
        (line["step"], line["eval_loss"], line["eval_accuracy"])
        for line in logged(folder)
        if "eval_loss" in line
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables 3 and 2 in one folder; twice as many steps as the time of the baseline allows."""
    folder = tmp_path_factory.mktemp("tables")
    main(tiny(folder, table(folder, 3, RATES)))
    main(tiny(folder, table(folder, 2, RATES), resume_from_checkpoint="latest"))
    return folder / "out"


def test_every_run_of_a_table_is_trained_once_with_its_own_values(trained: Path) -> None:
    for cell, rate in zip(CELLS, RATES, strict=True):
        for name, ratio in (("baseline", 1), ("early_exit", 2), ("last_exit", 2)):
            text = (trained / cell / name / "log.jsonl").read_text()
            assert text.count('"event": "start"') == 1
            start = json.loads(text.splitlines()[0])
            assert start["training"]["learning_rate"] == rate
            assert start["images"]["train_rows"] == 24
            last = logged(trained / cell / name)[-1]
            assert last["sift/backprop_samples"] == STEPS * BATCH
            # 24 rows are an epoch of 6 batches for the baseline, of 3 for the others
            assert last["sift/candidates"] == STEPS * BATCH * ratio
            assert [step for step, _, _ in evaluated(trained / cell / name)] == [3, 6]


def test_a_run_ends_with_its_seconds(tmp_path: Path) -> None:
    """With next to none, its own or those in the log of its baseline: after the first step."""
    argv = tiny(tmp_path, table(tmp_path, 3, RATES), train_seconds=1e-9)
    (run,) = main([*argv, "--runs", "early_exit"])
    assert run.final.spent.step == 1
    argv = tiny(tmp_path, table(tmp_path, 2, RATES))
    main([*argv, "--runs", "baseline"])
    log = tmp_path / "out" / CELLS[0] / "baseline" / "log.jsonl"
    text = re.sub(r'("sift/\w+_hours": )[0-9.e+-]+', r"\g<1>1e-12", log.read_text())
    assert text != log.read_text()
    log.write_text(text)
    (run,) = main([*argv, "--runs", "early_exit_same_time"])
    assert run.final.spent.step == 1


def test_accuracy_is_that_of_the_saved_model_on_all_test_images(trained: Path) -> None:
    """6 of them in batches of 5, the last of one."""
    folder = trained / CELLS[0] / "early_exit"
    model = EarlyExitResNetForImageClassification.from_pretrained(folder / f"checkpoint-{STEPS}")
    assert model.config.id2label == dict(enumerate(CLASSES))
    data = load_images(
        ImageArguments(dataset="generic", files=str(trained.parent / "pictures"), image_size=16),
        progress=False,
    )
    rows = [data.test[index] for index in range(len(data.test))]
    pixels = torch.stack([row["pixel_values"] for row in rows])
    labels = torch.tensor([row["labels"] for row in rows])
    with torch.no_grad():
        output = model.eval()(pixel_values=pixels, labels=labels)
    step, loss, accuracy = evaluated(folder)[-1]
    assert step == STEPS
    assert float(output.loss) == pytest.approx(loss, rel=1e-5)
    assert float((output.logits.argmax(-1) == labels).float().mean()) == pytest.approx(accuracy)


RUN = f"{CELLS[0]}/early_exit"


def test_a_resumed_run_is_the_whole_one(trained: Path, tmp_path: Path) -> None:
    """The cycle, the crops, the order of the rows and the scores continue."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    argv = [*tiny(trained.parent, trained.parent / "table_3.yaml"), "--runs", RUN]
    main([*argv, *flags(output_dir=whole, save_total_limit=5)])
    (parts / RUN).mkdir(parents=True)
    (whole / RUN / "checkpoint-3").rename(parts / RUN / "checkpoint-3")
    main([*argv, *flags(output_dir=parts, resume_from_checkpoint="latest")])
    assert evaluated(whole / RUN) == evaluated(trained / RUN)
    assert evaluated(parts / RUN) == evaluated(whole / RUN)[1:]


# ---- what is refused, before data or model are touched ----


@pytest.mark.parametrize(
    ("number", "changes", "message"),
    [
        (3, {"stem": "imagenet", "image_size": 12}, "image_size=12 is too small .* use 16 or"),
        (3, {"sift_exit_layer": 3}, r"exit layer 3 .* use 1\.\.2"),
        (2, {"sift_cooldown_steps": 1}, "early_exit_same_time'.* use 0"),
        (2, {"train_seconds": 1}, "same_time_as='baseline' and train_seconds=1.0: set only one"),
        (3, {"same_time_as": "nobody"}, "rate_0.005/nobody' must be a run before it"),
    ],
)
def test_refused_before_the_data_is_touched(
    tmp_path: Path, monkeypatch: Any, number: int, changes: dict[str, Any], message: str
) -> None:
    def touched(*_: Any) -> None:
        raise AssertionError("the data was read")

    untouched = replace(IMAGE_CLASSIFICATION, load_data=touched)
    monkeypatch.setattr("sift_trainer.reproduction.resnet.job.IMAGE_CLASSIFICATION", untouched)
    with pytest.raises(ConfigError, match=message):
        main(tiny(tmp_path, table(tmp_path, number, RATES), **changes))
    assert not (tmp_path / "out").exists()
