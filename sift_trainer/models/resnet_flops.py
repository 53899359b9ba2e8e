"""Floating point operations of the two-classifier ResNet, for training and for scoring.

Counted per image, with a multiply-add as two, are convolutions and classifiers; what is done per
element is left out: batch normalisation, activations, pooling. That is the cost where arithmetic
bounds the step; on a GPU the rest is bound by memory and takes time too.
"""

from dataclasses import dataclass

from sift_trainer.models.resnet import EXIT_GROUP, EarlyExitResNetConfig


@dataclass(frozen=True)
class ResNetFlops:
    """Operations of one image's forward, part by part."""

    stem: int
    groups: tuple[int, ...]
    intermediate_classifier: int
    final_classifier: int

    @property
    def early_exit(self) -> int:
        """Scoring at exit 1: stem, two block groups, intermediate classifier."""
        return self.stem + sum(self.groups[:EXIT_GROUP]) + self.intermediate_classifier

    @property
    def forward(self) -> int:
        """A whole forward, which is also scoring at the last exit."""
        classifiers = self.intermediate_classifier + self.final_classifier
        return self.stem + sum(self.groups) + classifiers

    @property
    def forward_backward(self) -> int:
        """Each product has two more for the gradients of its factors; the image needs none."""
        return 3 * self.forward - self.stem

    def scoring_overhead(self, keep_ratio: float = 0.5, exit_layer: int = 1) -> float:
        """Scoring all candidates over forward and backward of the kept ones, as `sift/overhead`.

        Raises:
            ValueError: for an exit that the model does not have, or a ratio outside (0, 1].
        """
        if exit_layer not in (1, 2, -1):
            raise ValueError(f"exit_layer={exit_layer} must be 1, 2, or -1 for the last")
        if not 0 < keep_ratio <= 1:
            raise ValueError(f"keep_ratio={keep_ratio} must be in (0, 1], such as 0.5")
        scoring = self.early_exit if exit_layer == 1 else self.forward
        return scoring / keep_ratio / self.forward_backward


def count(config: EarlyExitResNetConfig, image_size: int) -> ResNetFlops:
    """Operations for one image of ``image_size`` x ``image_size`` pixels."""
    small = config.stem == "cifar"
    side = image_size if small else _halved(image_size)
    kernel = 3 if small else 7
    stem = 2 * kernel**2 * config.num_channels * config.embedding_size * side**2
    side = side if small else _halved(side)  # the max-pool
    groups, width = [], config.embedding_size
    for number, (depth, wider) in enumerate(zip(config.depths, config.hidden_sizes, strict=True)):
        stride = 2 if number or config.downsample_in_first_stage else 1
        operations = _layer(config, width, wider, side, stride)
        side, width = _halved(side) if stride == 2 else side, wider
        groups.append(operations + (depth - 1) * _layer(config, width, width, side, 1))
    return ResNetFlops(
        stem,
        tuple(groups),
        2 * config.hidden_sizes[EXIT_GROUP - 1] * config.num_labels,
        2 * width * config.num_labels,
    )


def _halved(side: int) -> int:
    """What a stride of 2 leaves of a side, with the padding of half a kernel."""
    return (side + 1) // 2


def _layer(config: EarlyExitResNetConfig, width: int, wider: int, side: int, stride: int) -> int:
    """A residual layer that takes ``width`` channels of a map of ``side`` to ``wider``."""
    after = (_halved(side) if stride == 2 else side) ** 2
    shortcut = width * wider * after if stride != 1 or width != wider else 0
    if config.layer_type == "basic":
        return 2 * (9 * width * wider * after + 9 * wider**2 * after + shortcut)
    inner = wider // 4
    first = after if config.downsample_in_bottleneck else side**2
    return 2 * (width * inner * first + 9 * inner**2 * after + inner * wider * after + shortcut)
