"""The image script as two processes: one job, evaluated as its checkpoint is."""

import json
from pathlib import Path

import pytest
import torch

from sift_trainer.reproduction.images import ImageArguments, load_images
from sift_trainer.reproduction.resnet.model import EarlyExitResNetForImageClassification
from tests.distributed.launch import ROOT, as_by_accelerate
from tests.reproduction.bert.toy import flags
from tests.reproduction.resnet.toy import BATCH, STEPS, table, tiny

pytestmark = pytest.mark.distributed


def test_two_processes_report_what_one_finds_in_their_checkpoint(tmp_path: Path) -> None:
    """Their running statistics differ: each has normalised images of its own."""
    run = "learning_rate_0.1/early_exit"
    printed = as_by_accelerate(
        *("--config_file", ROOT / "configs" / "accelerate" / "ddp_8gpu.yaml"),
        *("--num_processes", 2, "--mixed_precision", "no"),
        *(ROOT / "scripts" / "train_resnet.py", *tiny(tmp_path, table(tmp_path, 3, [0.1]))),
        *flags(world_size=2, runs=run, per_device_eval_batch_size=3),
    )
    folder = tmp_path / "out" / run
    assert (folder / "results.json").is_file(), printed
    lines = [json.loads(text) for text in (folder / "log.jsonl").read_text().splitlines()]
    assert lines[0]["processes"] == 2
    assert lines[-1]["sift/backprop_samples"] == STEPS * BATCH * 2
    assert lines[-1]["sift/candidates"] == STEPS * BATCH * 4
    (reported,) = [line for line in lines if "eval_loss" in line and line["step"] == STEPS]

    images = ImageArguments(dataset="generic", files=str(tmp_path / "pictures"), image_size=16)
    data = load_images(images, progress=False)
    rows = [data.test[index] for index in range(len(data.test))]
    model = EarlyExitResNetForImageClassification.from_pretrained(folder / f"checkpoint-{STEPS}")
    labels = torch.tensor([row["labels"] for row in rows])
    with torch.no_grad():
        output = model.eval()(
            pixel_values=torch.stack([row["pixel_values"] for row in rows]), labels=labels
        )
    accuracy = float((output.logits.argmax(-1) == labels).double().mean())
    assert reported["eval_accuracy"] == pytest.approx(accuracy)
    # Two processes have 3 images each, in one batch: the mean of their losses is that of all.
    assert reported["eval_loss"] == pytest.approx(float(output.loss), rel=1e-5)
