"""Saved models and local data, made once."""

import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from datasets import Dataset
from transformers import ViTImageProcessorPil

from tests.swapped.inputs import make_data, make_models

MISTAKEN_FILES = {
    "broken.jsonl": '{"text": \n',
    "unlabelled.csv": "text,label\na lamp,-1\na table,1\n",
    "shares.csv": "text,label\na lamp,0.5\na table,1.5\n",
    "two_texts.csv": "title,body,label\na,a lamp,0\nb,a table,1\n",
    "no_text.jsonl": '{"text": "a lamp ."}\n{"text": null}\n',
    "notes.docx": "",
}


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder with ``models`` and ``data``, and the cache of `datasets` beside them."""
    folder = tmp_path_factory.mktemp("named")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        make_models(folder / "models")
        size = {"height": 16, "width": 16}
        processor = ViTImageProcessorPil(size=size)
        processor.save_pretrained(folder / "models" / "image_classification")
        make_data(folder / "data")
        for name, content in MISTAKEN_FILES.items():
            (folder / "data" / name).write_text(content)
        lines = (folder / "data" / "train.jsonl").read_text().splitlines()
        saved = Dataset.from_list([json.loads(line) for line in lines])
        saved.save_to_disk(folder / "data" / "saved")
        yield folder
