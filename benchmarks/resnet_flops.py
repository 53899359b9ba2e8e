"""Floating point operations of the two-classifier ResNet, for training and for scoring.

PyTorch's counter counts convolutions and classifiers, a multiply-add as two operations, and leaves
out what is computed per element: batch normalisation, activations, pooling.
"""

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from sift_trainer.early_exit import early_exit
from sift_trainer.reproduction.resnet.model import (
    EarlyExitResNetConfig,
    EarlyExitResNetForImageClassification,
)


class ResNetFlops(NamedTuple):
    """Operations for one image: scoring at exit 1, a whole forward (also scoring at the last exit),
    and a training step."""

    early_exit: int
    forward: int
    forward_backward: int

    def scoring_overhead(self, keep_ratio: float = 0.5, exit_layer: int = 1) -> float:
        """Scoring all candidates over forward and backward of the kept ones, as `sift/overhead`."""
        scoring = self.early_exit if exit_layer == 1 else self.forward
        return scoring / keep_ratio / self.forward_backward


def count(config: EarlyExitResNetConfig, image_size: int) -> ResNetFlops:
    """Operations for one image of ``image_size`` x ``image_size`` pixels, without memory for it."""
    batch = 2  # batch normalisation refuses a single value per channel
    with torch.device("meta"):
        model = EarlyExitResNetForImageClassification(config)
        images = torch.empty(batch, config.num_channels, image_size, image_size)
        labels = torch.empty(batch, dtype=torch.long)
    with torch.no_grad(), early_exit(model, 1), FlopCounterMode(display=False) as first:
        model(images)
    with FlopCounterMode(display=False) as whole:
        loss = model(images, labels=labels).loss
        forward = whole.get_total_flops()
        loss.backward()
    total = whole.get_total_flops()
    return ResNetFlops(first.get_total_flops() // batch, forward // batch, total // batch)
