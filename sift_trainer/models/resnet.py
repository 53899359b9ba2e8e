"""The paper's ResNet for sifting: a second classifier on an intermediate group (Appendix G).

logits = L_f R_f + L_i R_i, where R_f is the pooled output of the last block group and R_i that of
the second. Early logits are L_i R_i alone. Both classifiers are trained, by the one cross-entropy
of the sum (section 7.2: "the standard cross-entropy loss function"): there is no loss on the early
logits, so nothing but their part in the sum makes them predict.
"""

from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
)
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention

from sift_trainer.early_exit import register_exit
from sift_trainer.early_exit.resnet import TwoClassifierExit
from sift_trainer.models.classifier_inputs import (
    check_label_type,
    check_labels,
    check_pixel_values,
)

EXIT_GROUP = 2
"""The block group that the intermediate classifier reads, counted from 1."""

STEM_STRIDES = {"imagenet": 4, "cifar": 1}
"""The stems, and how often each halves a side, as a factor."""


class EarlyExitResNetConfig(ResNetConfig):
    """`transformers.ResNetConfig`, by default of ResNet-50, and a choice of stem.

    Args:
        stem: ``"imagenet"``, a 7x7 convolution of stride 2 and a 3x3 max-pool of stride 2, or
            ``"cifar"``, a 3x3 convolution of stride 1 and no max-pool, for images of about 32
            pixels: the other stem would leave them 8 x 8 pixels for the first block group, and one
            pixel for the last. The paper does not say which it used.
        num_labels: classes, 2 or more.

    Raises:
        ValueError: for an unknown stem, fewer than three block groups, one class, or a
            ``problem_type`` that is no classification into one of several classes.
    """

    model_type = "early_exit_resnet"

    stem: str = "imagenet"
    problem_type: str | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.stem not in STEM_STRIDES:
            raise ValueError(f"stem={self.stem!r} must be one of {', '.join(STEM_STRIDES)}")
        if len(self.depths) <= EXIT_GROUP or len(self.depths) != len(self.hidden_sizes):
            raise ValueError(
                f"depths={list(self.depths)} and hidden_sizes={list(self.hidden_sizes)} must have "
                f"one value for each of at least {EXIT_GROUP + 1} block groups, such as "
                "[3, 4, 6, 3] and [256, 512, 1024, 2048]: the exit is after the second"
            )
        if self.num_labels < 2:
            raise ValueError(f"num_labels={self.num_labels} must be at least 2, such as 100")
        if self.problem_type not in (None, "single_label_classification"):
            raise ValueError(
                f"problem_type={self.problem_type!r} must be 'single_label_classification'"
            )
        self.problem_type = "single_label_classification"

    @property
    def smallest_side(self) -> int:
        """Pixels that an image needs so that the strides leave one to the last block group."""
        halved: int = len(self.depths) - 1 + self.downsample_in_first_stage
        return STEM_STRIDES[self.stem] << halved


class EarlyExitResNetForImageClassification(ResNetForImageClassification):
    """The library's ResNet with an intermediate classifier.

    R_i is the average over the map that the second block group puts out, after its last residual
    sum and ReLU. The paper calls that "the final output of the second block consisting of 128
    filters": in ResNet-50, 128 is the width inside the bottlenecks of that group (``conv3_x``), and
    its output has 512 channels, ``hidden_sizes[1]``. The 512 are taken, since an output of the
    group with 128 channels does not exist. They are averaged as R_f is, since a classifier on the
    whole map would have 40 million weights for 100 classes, where the paper speaks of not too many.

    Both classifiers have a bias, so that the early logits have one of their own.

    Attributes:
        exits_early: whether `forward` runs stem and two block groups and returns early logits; set
            by `TwoClassifierExit`, inside `sift_trainer.early_exit` and scoring.
    """

    config: EarlyExitResNetConfig
    exits_early: bool

    def __init__(self, config: EarlyExitResNetConfig) -> None:
        super().__init__(config)
        self.exits_early = False
        if config.stem == "cifar":
            # Put in place of the library's parts, whose names in the state dict they keep.
            stem = self.resnet.embedder
            stem.embedder.convolution = nn.Conv2d(
                config.num_channels, config.embedding_size, kernel_size=3, padding=1, bias=False
            )
            stem.pooler = nn.Identity()
        self.intermediate_classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(config.hidden_sizes[EXIT_GROUP - 1], config.num_labels)
        )
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> ImageClassifierOutputWithNoAttention | tuple[Any, ...]:
        """Logits (B, num_labels) and, given labels, their mean cross-entropy.

        Args:
            pixel_values: ``(B, num_channels, height, width)``, floating point.
            labels: ``(B,)`` class ids; on the CPU their range is checked, see `check_labels`.
            output_hidden_states: also return the outputs of the stem and of each block group that
                ran, ``(B, width, height, width)`` each.
            return_dict: False for a tuple.
            kwargs: ``num_items_in_batch``, which the loss divides by in place of B.

        Raises:
            ValueError: for images or labels that do not fit the configuration.
        """
        check_pixel_values(pixel_values, self.config.num_channels, self.config.smallest_side)
        if labels is not None:
            readable = labels.device.type == "cpu" and not torch.compiler.is_compiling()
            (check_labels if readable else check_label_type)(labels, self.config.num_labels)
        if self.exits_early:
            hidden_states = self._first_groups(pixel_values)
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
        if return_dict is None:
            return_dict = self.config.return_dict
        output = ImageClassifierOutputWithNoAttention(
            loss=loss, logits=logits, hidden_states=hidden_states if output_hidden_states else None
        )
        return output if return_dict else output.to_tuple()

    def _first_groups(self, pixel_values: Tensor | None) -> tuple[Tensor, ...]:
        """Outputs of the stem and of the block groups up to the exit."""
        hidden_states = [self.resnet.embedder(pixel_values)]
        for group in islice(self.resnet.encoder.stages, EXIT_GROUP):
            hidden_states.append(group(hidden_states[-1]))
        return tuple(hidden_states)


AutoConfig.register(EarlyExitResNetConfig.model_type, EarlyExitResNetConfig)
AutoModelForImageClassification.register(
    EarlyExitResNetConfig, EarlyExitResNetForImageClassification
)
register_exit(EarlyExitResNetForImageClassification, TwoClassifierExit)
