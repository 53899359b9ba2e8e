"""Models and data by name, made once."""

from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest

from tests.probe.named_inputs import make_named_inputs


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder with ``models`` and ``data``; what `datasets` reads is cached beside them."""
    folder = tmp_path_factory.mktemp("named")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        make_named_inputs(folder)
        yield folder
