"""Trainers of a tiny model to probe, and settings with which that takes a second."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from sift_trainer import SiftTrainer
from tests.training import Rows, arguments, bert

FAST: dict[str, Any] = {"rounds": 1, "norm_batches": 1, "gradient_batches": 2, "batches": 6}


def rough(model: nn.Module) -> nn.Module:
    """With weights large enough that exits differ."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=draw)
    return model


def trainer_of(folder: Path, model: Any = None, data: Any = None, **changes: Any) -> SiftTrainer:
    model = rough(bert()) if model is None else model
    rows = Rows(400) if data is None else data
    return SiftTrainer(model, arguments(folder, **changes), train_dataset=rows)
