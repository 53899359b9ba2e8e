"""A two-classifier ResNet with four groups of one layer, and images for it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from sift_trainer.reproduction.resnet.model import (
    EarlyExitResNetConfig,
    EarlyExitResNetForImageClassification,
)

# At these widths a second thread only waits for the first, and on shared cores it waits long.
torch.set_num_threads(1)

CLASSES = 5
SIZES = {"embedding_size": 4, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 2, 1, 1]}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def config(stem: str = "cifar", **changes: Any) -> EarlyExitResNetConfig:
    return EarlyExitResNetConfig(**{**SIZES, "num_labels": CLASSES, "stem": stem, **changes})


def resnet(
    stem: str = "cifar", seed: int = 0, **changes: Any
) -> EarlyExitResNetForImageClassification:
    """In training mode, with batch-norm statistics that are not those of a new model."""
    torch.manual_seed(seed)
    model = EarlyExitResNetForImageClassification(config(stem, **changes))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.train()


def images(count: int = 4, side: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


class Images(Dataset[dict[str, Tensor]]):
    """`images` with random labels."""

    def __init__(self, count: int) -> None:
        self.pixel_values = images(count, seed=7)
        generator = torch.Generator().manual_seed(8)
        self.labels = torch.randint(CLASSES, (count,), generator=generator)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self.pixel_values[index], "labels": self.labels[index]}


def early_logits(model: EarlyExitResNetForImageClassification, pixel_values: Tensor) -> Tensor:
    """By hand, in evaluation mode: stem and two groups, average, L_i."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        maps = model.resnet.encoder.stages[0](model.resnet.embedder(pixel_values))
        means = model.resnet.encoder.stages[1](maps).mean((2, 3))
        linear = model.intermediate_classifier[1]
        logits = means @ linear.weight.T + linear.bias
    model.train(was_training)
    return logits


def statistics(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all that batch normalisation keeps."""
    state = model.state_dict()
    return {name: value.clone() for name, value in state.items() if name.endswith(STATISTICS)}
