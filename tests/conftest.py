"""No test reaches for a hub."""

import gc
import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_collection_finish() -> None:
    """The Trainer collects garbage in front of each run; what imports have made is none, and to
    look through it would take most of the time of a small run."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first, as a worker that is given one last works on alone."""
    long = {i.path for i in items if any(i.get_closest_marker(m) for m in ("slow", "distributed"))}
    items.sort(key=lambda item: item.path not in long)
