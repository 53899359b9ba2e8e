"""The paper's ResNet for sifting: a second classifier on an intermediate group (appendix G).

logits = L_f R_f + L_i R_i, where R_f is the pooled output of the last block group and R_i that of
the second. Early logits are L_i R_i alone. The one cross-entropy of the sum trains both classifiers
(section 7.2: "the standard cross-entropy loss function"). There is no loss on the early logits.
Importing this module registers model and exit with the Auto classes and `register_exit`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
)
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention
from transformers.utils.generic import can_return_tuple

from sift_trainer.early_exit import register_exit
from sift_trainer.early_exit.adapter import ExitAdapter
from sift_trainer.scoring.positions import ScoredPositions

EXIT_GROUP = 2
"""The block group that the intermediate classifier reads, counted from 1."""

STEM_STRIDES = {"imagenet": 4, "cifar": 1}
"""The stems, and the factor by which each divides the sides of an image."""


class EarlyExitResNetConfig(ResNetConfig):
    """`transformers.ResNetConfig`, by default of ResNet-50, and a choice of stem.

    Args:
        stem: ``"imagenet"``, a 7x7 convolution of stride 2 and a 3x3 max-pool of stride 2, or
            ``"cifar"``, a 3x3 convolution of stride 1 without max-pool, for images of about 32
            pixels. The paper does not say which one it used.

    Raises:
        ValueError: an unknown stem, fewer than three block groups, or fewer than two classes.
    """

    model_type = "early_exit_resnet"

    stem: str = "imagenet"
    problem_type: str | None = "single_label_classification"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.stem not in STEM_STRIDES:
            raise ValueError(f"stem={self.stem!r} must be one of {', '.join(STEM_STRIDES)}")
        if len(self.depths) <= EXIT_GROUP or len(self.depths) != len(self.hidden_sizes):
            raise ValueError(
                f"depths={list(self.depths)} and hidden_sizes={list(self.hidden_sizes)} must have "
                f"one value for each of at least {EXIT_GROUP + 1} block groups, such as "
                "[3, 4, 6, 3] and [256, 512, 1024, 2048]"
            )
        if self.num_labels < 2:
            raise ValueError(f"num_labels={self.num_labels} must be 2 or more, such as 100")

    @property
    def smallest_side(self) -> int:
        """Pixels of a side that leave one pixel to the last block group."""
        halved: int = len(self.depths) - 1 + self.downsample_in_first_stage
        return STEM_STRIDES[self.stem] << halved


class EarlyExitResNetForImageClassification(ResNetForImageClassification):
    """The library's ResNet with an intermediate classifier.

    R_i is the average over the output map of the second block group, after its last residual sum
    and ReLU: 512 channels in ResNet-50 (``hidden_sizes[1]``), see docs/resnet_model.md.

    Attributes:
        exits_early: whether `forward` stops after the second block group and returns early logits.
    """

    config: EarlyExitResNetConfig
    exits_early: bool

    def __init__(self, config: EarlyExitResNetConfig) -> None:
        super().__init__(config)
        self.exits_early = False
        if config.stem == "cifar":
            # These replace parts of the library's stem and keep their names in the state dict.
            stem = self.resnet.embedder
            stem.embedder.convolution = nn.Conv2d(
                config.num_channels, config.embedding_size, kernel_size=3, padding=1, bias=False
            )
            stem.pooler = nn.Identity()
        self.intermediate_classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(config.hidden_sizes[EXIT_GROUP - 1], config.num_labels)
        )
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> ImageClassifierOutputWithNoAttention:
        """Logits (B, num_labels) and, given labels, their mean cross-entropy.

        Args:
            pixel_values: ``(B, num_channels, height, width)``, floating point.
            labels: ``(B,)`` class ids; -100 leaves a sample out.
            output_hidden_states: also return the outputs of the stem and of each block group that
                ran, ``(B, width, height, width)`` each.
            kwargs: ``num_items_in_batch``, by which the loss is divided in place of B; and
                ``return_dict``, which is False for a tuple.
        """
        if self.exits_early:
            hidden_states: tuple[Tensor, ...] = (self.resnet.embedder(pixel_values),)
            for group in islice(self.resnet.encoder.stages, EXIT_GROUP):
                hidden_states += (group(hidden_states[-1]),)
        else:
            whole = super().forward(pixel_values, output_hidden_states=True, return_dict=True)
            hidden_states = whole.hidden_states
        logits = self.intermediate_classifier(self.resnet.pooler(hidden_states[EXIT_GROUP]))
        if not self.exits_early:
            logits = whole.logits + logits
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config, **kwargs)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return ImageClassifierOutputWithNoAttention(
            loss=loss, logits=logits, hidden_states=hidden_states if output_hidden_states else None
        )


class TwoClassifierExit(ExitAdapter):
    """Two exits: 1, the intermediate classifier alone, and 2 (or -1), the model's exact output."""

    @property
    def depth(self) -> int:
        return 2

    @contextmanager
    def at(self, k: int, positions: ScoredPositions | None = None) -> Iterator[None]:
        model: Any = self.model
        before = model.exits_early
        model.exits_early = k == 1
        try:
            yield
        finally:
            model.exits_early = before


AutoConfig.register(EarlyExitResNetConfig.model_type, EarlyExitResNetConfig)
AutoModelForImageClassification.register(
    EarlyExitResNetConfig, EarlyExitResNetForImageClassification
)
register_exit(EarlyExitResNetForImageClassification, TwoClassifierExit)
