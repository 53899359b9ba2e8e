"""Saved models and local data for the probe of what is given by name, one folder for all tests."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import BertConfig, BertForPreTraining, ViTImageProcessorPil

from tests.pretraining.toy import flags
from tests.swapped.inputs import make_data, make_models

QUICK: dict[str, Any] = {
    "use_cpu": "true",
    "disable_tqdm": "true",
    "per_device_train_batch_size": 4,
    "batches": 3,
    "gradient_batches": 2,
    "criteria": "loss",
    "fractions": 1,
}

MISTAKEN_FILES = {
    "empty.jsonl": "",
    "broken.jsonl": '{"text": \n',
    "unlabelled.csv": "text,label\na lamp,-1\na table,1\n",
    "shares.csv": "text,label\na lamp,0.5\na table,1.5\n",
    "two_texts.csv": "title,body,label\na,a lamp,0\nb,a table,1\n",
    "no_text.jsonl": '{"text": "a lamp ."}\n{"text": null}\n',
    "notes.docx": "",
}


def make_named_inputs(folder: Path) -> None:
    """``models`` and ``data`` of the swapped scripts, a processor, a model that says no task, and
    files that cannot be used."""
    make_models(folder / "models")
    size = {"height": 16, "width": 16}
    ViTImageProcessorPil(size=size).save_pretrained(folder / "models" / "image_classification")
    BertForPreTraining(
        BertConfig(
            vocab_size=50,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
        )
    ).save_pretrained(folder / "models" / "pretraining")
    make_data(folder / "data")
    for name, content in MISTAKEN_FILES.items():
        (folder / "data" / name).write_text(content)
    lines = (folder / "data" / "train.jsonl").read_text().splitlines()
    Dataset.from_list([json.loads(line) for line in lines]).save_to_disk(folder / "data" / "saved")


def command(folder: Path, model: str, data: str, **more: Any) -> list[str]:
    """Of a probe of ``folder/models/model`` on ``folder/data/data``."""
    named = {"model": folder / "models" / model, "dataset": folder / "data" / data}
    return ["probe", *flags(**{**named, **QUICK, **more})]
