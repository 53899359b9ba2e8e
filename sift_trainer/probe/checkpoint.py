"""A checkpoint: its weights, within a context, and AdamW's second moments."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_model
from torch import nn
from transformers import Trainer

from sift_trainer.measuring.gradients import AdamScales


@contextmanager
def weights_of(model: nn.Module, folder: str | Path) -> Iterator[None]:
    """Within the context the model has a checkpoint's weights and buffers."""
    file = Path(folder) / "model.safetensors"
    if not file.is_file():
        raise ValueError(
            f"checkpoint={str(folder)!r} has no {file.name}; give the folder of a checkpoint, such "
            "as runs/mine/checkpoint-500"
        )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        load_model(model, str(file))
        yield
    finally:
        model.load_state_dict(before)


def adam_scales(trainer: Trainer, folder: str | Path) -> AdamScales:
    """AdamW's preconditioner by the second moments of a checkpoint of this trainer's optimizer.
    `ValueError` if the folder has none of this model's parameters."""
    file = Path(folder) / "optimizer.pt"
    if not file.is_file():
        raise ValueError(f"the checkpoint has no {file.name}")
    before = trainer.optimizer
    trainer.create_optimizer()
    groups, trainer.optimizer = trainer.optimizer.param_groups, before
    # SGD only holds the state: it accepts that of any optimizer.
    optimizer = torch.optim.SGD([{"params": group["params"]} for group in groups])
    optimizer.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    trained = [each for each in trainer.model.parameters() if each.requires_grad]
    scales = AdamScales(optimizer, trained)
    if not scales.known:
        raise ValueError(f"{file.name} has no second moments (Adam's) of these parameters")
    return scales
