"""Saved models and local data, made once."""

from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from transformers import ViTImageProcessorPil

from tests.swapped.inputs import make_data, make_models


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder with ``models`` and ``data``, and the cache of `datasets` beside them."""
    folder = tmp_path_factory.mktemp("named")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        make_models(folder / "models")
        processor = ViTImageProcessorPil(size={"height": 16, "width": 16})
        processor.save_pretrained(folder / "models" / "image_classification")
        make_data(folder / "data")
        (folder / "data" / "unlabelled.csv").write_text("text,label\na lamp,-1\na table,1\n")
        yield folder
