"""Runs of one sifted step, or of none: what the tests of losses share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import default_collate

from sift_trainer import SiftTrainer
from sift_trainer.early_exit.registry import _REGISTERED as EXITS
from sift_trainer.scoring.criteria import CRITERIA
from sift_trainer.scoring.tasks import _REGISTERED as TASKS
from tests.test_matrix import rows_of
from tests.training import arguments


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    before = [(registry, dict(registry)) for registry in (EXITS, TASKS, CRITERIA)]
    yield
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


def run_of(model: nn.Module, batch: Any, folder: Path, kind: Any = SiftTrainer, **more: Any) -> Any:
    """A trainer of one sifted step on all rows of ``batch``, which keeps the largest scores."""
    given = {name: more.pop(name) for name in list(more) if name == "compute_loss_func"}
    settings = {
        "max_steps": 1,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "sift_selector": "top_k",
    }
    args = arguments(folder, **{**settings, **more})
    return kind(model, args, train_dataset=rows_of(batch), data_collator=default_collate, **given)


def refused_untouched(trainer: Any, match: str) -> str:
    """The message of the refusal, before any parameter has changed."""
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with pytest.raises(ValueError, match=match) as raised:
        trainer.train()
    after = trainer.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    return str(raised.value)
