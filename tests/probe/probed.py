"""Trainers of tiny models to probe, settings for a fast probe, and gradients by hand."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from sift_trainer import SiftTrainer
from sift_trainer.reproduction.resnet.model import (
    EarlyExitResNetConfig,
    EarlyExitResNetForImageClassification,
)
from tests.training import Rows, arguments, bert

FAST: dict[str, Any] = {"rounds": 1, "gradient_batches": 2, "batches": 6}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


class Images(Dataset[dict[str, Tensor]]):
    def __init__(self, count: int) -> None:
        draw = torch.Generator().manual_seed(0)
        self.pixels = torch.randn(count, 3, 16, 16, generator=draw)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"pixel_values": self.pixels[row], "labels": torch.tensor(row % 3)}


class OwnLoss(SiftTrainer):
    """Trains without labels."""

    def compute_loss(self, model: Any, inputs: Any, **more: Any) -> Tensor:
        return model(**inputs).logits.square().mean()


def resnet() -> nn.Module:
    """For `Images`."""
    torch.manual_seed(0)
    sizes = {"depths": [1, 1, 1], "hidden_sizes": [8, 16, 24], "embedding_size": 4}
    config = EarlyExitResNetConfig(stem="cifar", num_labels=3, **sizes)
    return EarlyExitResNetForImageClassification(config)


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


def batch_of(numbers: Iterable[int]) -> dict[str, Tensor]:
    rows = [Rows(400)[number] for number in numbers]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def gradient(model: nn.Module, batch: dict[str, Tensor], rows: Any = slice(None)) -> Tensor:
    """Of the model's loss of some rows, all parameters in one vector."""
    names = ("input_ids", "attention_mask", "labels")
    loss = model(**{name: batch[name][rows] for name in names}).loss
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return torch.cat([each.flatten() for each in found if each is not None])


def same_weights(one: Any, other: Any) -> bool:
    weights = other.model.state_dict()
    return all(torch.equal(value, weights[name]) for name, value in one.model.state_dict().items())
