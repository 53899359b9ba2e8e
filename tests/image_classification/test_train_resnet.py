"""The image runs of a configuration, in this process: tables, time budgets, resuming, bad input."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sift_trainer.config import ConfigError, parse_config
from sift_trainer.data.images import load_images
from sift_trainer.image_classification import main
from sift_trainer.image_classification.arguments import KINDS, ImageArguments, Settings
from sift_trainer.image_classification.job import IMAGE_CLASSIFICATION, build_trainer, load_data
from sift_trainer.models import EarlyExitResNetForImageClassification
from sift_trainer.selection.rows import take_rows
from tests.image_classification.toy import BATCH, CLASSES, STEPS, table, tiny
from tests.pretraining.toy import flags

torch.set_num_threads(1)

RATES = [1e-2, 1e-3]
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


def test_every_run_of_a_table_is_trained_with_its_own_values(trained: Path) -> None:
    for cell, rate in zip(CELLS, RATES, strict=True):
        for name, ratio in (("baseline", 1), ("early_exit", 2), ("last_exit", 2)):
            lines = (trained / cell / name / "log.jsonl").read_text().splitlines()
            start = json.loads(lines[0])
            assert start["training"]["learning_rate"] == rate
            assert start["images"]["train_rows"] == 24
            last = logged(trained / cell / name)[-1]
            assert last["sift/backprop_samples"] == STEPS * BATCH
            # 24 rows are an epoch of 6 batches for the baseline, of 3 for the others
            assert last["sift/candidates"] == STEPS * BATCH * ratio
            assert [step for step, _, _ in evaluated(trained / cell / name)] == [3, 6]


def test_the_table_is_laid_out_as_in_the_paper(trained: Path) -> None:
    text = (trained / "table.md").read_text()
    head, _, *rows = [
        [cell.strip(" *") for cell in line.strip("|").split("|")]
        for line in text.split("\n\n")[0].splitlines()
    ]
    # The runs of the table that was trained last come first.
    assert head[:4] == ["accuracy (%)", "baseline", "early_exit_same_time", "last_exit_same_time"]
    assert head[4:] == ["early_exit", "last_exit"]
    assert [row[0] for row in rows] == CELLS
    for row in rows:
        for name, percent in zip(head[1:], row[1:], strict=True):
            accuracy = evaluated(trained / row[0] / name)[-1][-1]
            assert percent == f"{100 * accuracy:.2f}"
    for cell in CELLS:
        assert (trained / cell / f"{cell}.png").stat().st_size > 20_000


def test_a_finished_baseline_is_trained_once(trained: Path) -> None:
    log = (trained / CELLS[0] / "baseline" / "log.jsonl").read_text()
    assert log.count('"event": "start"') == 1


def test_runs_of_the_same_time_have_that_of_their_baseline(trained: Path) -> None:
    for cell in CELLS:
        spent = {}
        for name in ("baseline", "early_exit_same_time"):
            lines = logged(trained / cell / name)
            closing = [line for line in lines if "train_runtime" in line][-1]
            spent[name] = sum(
                3600 * value for key, value in closing.items() if re.fullmatch("sift/.*_hours", key)
            )
            steps = closing["step"]
        if steps < STEPS:  # else it was faster than the baseline, and ends with its steps
            assert spent["early_exit_same_time"] >= spent["baseline"]


def test_a_run_of_the_same_time_ends_with_the_seconds_in_its_baselines_log(tmp_path: Path) -> None:
    """A log that is made to say next to nothing: the first step spends it."""
    argv = tiny(tmp_path, table(tmp_path, 2, [1e-2]))
    main([*argv, "--runs", "baseline"])
    log = tmp_path / "out" / CELLS[0] / "baseline" / "log.jsonl"
    text = re.sub(r'("sift/\w+_hours": )[0-9.e+-]+', r"\g<1>1e-12", log.read_text())
    assert text != log.read_text()
    log.write_text(text)
    runs = main([*argv, "--runs", "early_exit_same_time", "last_exit_same_time"])
    assert [run.final.spent.step for run in runs] == [1, 1]


def test_train_seconds_end_a_run(tmp_path: Path) -> None:
    argv = tiny(tmp_path, table(tmp_path, 3, [1e-2]), train_seconds=1e-9)
    (run,) = main([*argv, "--runs", "baseline"])
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


@pytest.mark.parametrize("channels_last", [False, True])
def test_channels_last_is_the_layout_of_weights_and_of_kept_images(
    tmp_path: Path, channels_last: bool
) -> None:
    argv = tiny(tmp_path, table(tmp_path, 3, RATES), channels_last=channels_last)
    (run,) = parse_config(KINDS, [*argv, "--runs", RUN]).runs.values()
    settings = Settings(*run)
    trainer = build_trainer(settings, load_data(settings), settings.args, [])
    layout = torch.channels_last if channels_last else torch.contiguous_format
    convolution = trainer.model.resnet.encoder.stages[0].layers[0].layer[1].convolution
    assert convolution.weight.is_contiguous(memory_format=layout)
    batch = next(iter(trainer.get_train_dataloader()))
    kept = take_rows(batch, torch.tensor([0, 3, 5]))["pixel_values"]
    for images in (batch["pixel_values"], kept):
        assert images.is_contiguous(memory_format=layout)


def test_channels_last_changes_the_layout_and_not_the_values(trained: Path) -> None:
    """It is on in the configuration."""
    argv = tiny(trained.parent, trained.parent / "table_3.yaml", channels_last="false")
    (run,) = main([*argv, *flags(output_dir=trained.parent / "plain"), "--runs", RUN])
    plain = load_file(trained.parent / "plain" / RUN / f"checkpoint-{STEPS}" / "model.safetensors")
    last = load_file(trained / RUN / f"checkpoint-{STEPS}" / "model.safetensors")
    assert run.final.spent.step == STEPS
    for name, weights in plain.items():
        torch.testing.assert_close(weights, last[name], rtol=1e-3, atol=1e-4)


RUN = f"{CELLS[0]}/early_exit"


def test_a_resumed_run_is_the_whole_one(trained: Path, tmp_path: Path) -> None:
    """One cycle, crops, order of the rows and scores go on where they were."""
    argv = tiny(trained.parent, trained.parent / "table_3.yaml", output_dir=tmp_path)
    (tmp_path / RUN).mkdir(parents=True)
    for path in (trained / RUN).glob("checkpoint-*"):
        assert path.name == f"checkpoint-{STEPS}"  # save_total_limit: 1
    main([*argv, "--runs", RUN, "--save_total_limit", "5"])
    whole = evaluated(tmp_path / RUN)
    assert whole == evaluated(trained / RUN)
    parts = tmp_path / "parts"
    (parts / RUN).mkdir(parents=True)
    (tmp_path / RUN / "checkpoint-3").rename(parts / RUN / "checkpoint-3")
    argv = tiny(trained.parent, trained.parent / "table_3.yaml", output_dir=parts)
    main([*argv, "--runs", RUN, "--resume_from_checkpoint", "latest"])
    assert evaluated(parts / RUN) == whole[1:]


def test_a_run_that_ended_without_its_report_is_reported(trained: Path, tmp_path: Path) -> None:
    """Killed between the last checkpoint and the results."""
    (tmp_path / RUN).mkdir(parents=True)
    for name in (f"checkpoint-{STEPS}", "log.jsonl"):
        (trained / RUN / name).rename(tmp_path / RUN / name)
    argv = tiny(trained.parent, trained.parent / "table_3.yaml", output_dir=tmp_path)
    (run,) = main([*argv, "--runs", RUN, "--resume_from_checkpoint", "latest"])
    assert run.final.spent.step == STEPS
    assert run.final.spent.backprop_samples == STEPS * BATCH
    for name in (f"checkpoint-{STEPS}", "log.jsonl"):
        (tmp_path / RUN / name).rename(trained / RUN / name)


# ---- what is refused, before data or model are touched ----


@pytest.mark.parametrize(
    ("number", "changes", "message"),
    [
        (3, {"image_size": 6}, "image_size=6: must be 8 or more"),
        (3, {"stem": "imagenet", "image_size": 12}, "image_size=12: stem='imagenet' .* use 16 or"),
        (3, {"files": "nowhere"}, "files='nowhere' does not exist"),
        (3, {"max_images_per_class": 0}, "max_images_per_class=0: must be 1 or more"),
        (3, {"lr_scheduler_type": "cosine"}, "lr_scheduler_type='cosine' has no effect"),
        (3, {"sift_warmup_steps": 6}, "sift_warmup_steps=6.*no step would sift"),
        (2, {"sift_cooldown_steps": 1}, "early_exit_same_time'.* use 0"),
        (3, {"train_seconds": -1}, "train_seconds=-1.0 must be positive"),
        (2, {"train_seconds": 1}, "same_time_as='baseline' and train_seconds=1.0: give one"),
        (3, {"same_time_as": "nobody"}, "'learning_rate_0.01/nobody' is no run that comes before"),
        (3, {"resume_from_checkpoint": "here"}, "resume_from_checkpoint='here' fits one of 6 runs"),
        (3, {"world_size": 2}, "world_size=2 is requested, but there are 1"),
        (3, {"learning_rate": 1}, "the grid of the configuration varies learning_rate"),
    ],
)
def test_refused_before_the_data_is_touched(
    tmp_path: Path, monkeypatch: Any, number: int, changes: dict[str, Any], message: str
) -> None:
    def touched(*_: Any) -> None:
        raise AssertionError("the data was read")

    untouched = replace(IMAGE_CLASSIFICATION, load_data=touched)
    monkeypatch.setattr("sift_trainer.image_classification.job.IMAGE_CLASSIFICATION", untouched)
    with pytest.raises(ConfigError, match=message):
        main(tiny(tmp_path, table(tmp_path, number, RATES), **changes))
    assert not (tmp_path / "out").exists()


def test_an_exit_that_the_model_does_not_have(tmp_path: Path) -> None:
    file = tmp_path / "deep.yaml"
    file.write_text("sift_exit_layer: 3\nlearning_rate: 0.01\n")
    with pytest.raises(ConfigError, match=r"run 'deep': exit layer 3 .* use 1\.\.2"):
        main(tiny(tmp_path, file))


def test_images_that_cannot_be_used_are_named_before_training(tmp_path: Path) -> None:
    argv = tiny(tmp_path, table(tmp_path, 3, RATES))
    broken = tmp_path / "pictures" / "train" / "baby" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"1 of 24 images cannot be read:\n.*baby/1\.jpg"):
        main(argv)
    assert not (tmp_path / "out").exists()
    argv += flags(skip_unreadable="true", runs=RUN)
    main(argv)
    (line, *_) = logged(tmp_path / "out" / RUN)
    assert line["unreadable_images"] == 1
    for path in (tmp_path / "pictures" / "test" / "bear").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="bear"):
        main(argv)


def test_the_log_says_nothing_of_unreadable_images_unless_asked(trained: Path) -> None:
    assert not any("unreadable_images" in line for line in logged(trained / RUN))
