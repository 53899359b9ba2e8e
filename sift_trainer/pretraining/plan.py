"""What a run of BERT pre-training would take, worked out before anything is loaded or trained."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import BertConfig, BertForPreTraining

from sift_trainer.arguments import (
    SiftTrainingArguments,
    scores_with_model,
    wants_masked_only_head,
)
from sift_trainer.early_exit.adapter import check_exit
from sift_trainer.flops import BertShape, Computed, forward_backward, scoring
from sift_trainer.pretraining.activation_memory import activation_bytes
from sift_trainer.selection.schedule import num_candidates, steps_of

# Table 6 of the paper: hours of scoring by criterion and exit, beside 3.8 of forward and 7.9 of
# backward.
PAPER_HOURS = {
    "loss": {1: 0.8452, 2: 1.1662, 3: 1.4764, 6: 2.5901, 12: 4.5086},
    "entropy": {1: 0.9121, 2: 1.2181, 3: 1.5398, 6: 2.6195, 12: 4.5148},
}
PAPER_FORWARD_BACKWARD_HOURS = 3.8 + 7.9
PAPER_SHAPE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "vocab_size": 30522,
}
PAPER_LENGTH = 512


@dataclass(frozen=True)
class Plan:
    """One run of `BertForPreTraining` from scratch, in numbers.

    Everything but the model's shape is read from ``args``. Rows are taken as full, and processes as
    each holding the whole model, as under DDP. No weights are made.

    Args:
        name: of the run.
        length: tokens of a row.
        label_share: share of the tokens that are masked, such as 0.15.
        processes: that train together.
        training_rows: None if not known.
        on_gpu: whether to count the memory of GPU kernels; None: in mixed precision, and where
            there is a GPU.

    Raises:
        ValueError: if the number of steps depends on the number of rows, which is not known; if
            the model has no such exit.
    """

    name: str
    config: BertConfig
    args: SiftTrainingArguments
    length: int
    label_share: float
    processes: int
    training_rows: int | None = None
    on_gpu: bool | None = None

    def __post_init__(self) -> None:
        if self.args.max_steps <= 0 and self.training_rows is None:
            raise ValueError(
                f"{self.name}: max_steps={self.args.max_steps} and an unknown number of training "
                "rows leave the number of steps open; set max_steps, such as 800000"
            )
        depth = self.config.num_hidden_layers
        check_exit(self.args.sift_exit_layer, depth, BertForPreTraining.__name__)

    # ---- samples ----

    @property
    def kept(self) -> int:
        """Samples of a process's micro-batch that are trained on."""
        return int(self.args.per_device_train_batch_size)

    @property
    def drawn(self) -> int:
        """Samples of a process's micro-batch before selection."""
        return num_candidates(self.kept, self.args.sift_keep_ratio)

    @property
    def micro_batches(self) -> int:
        """Of a step, over all processes."""
        return int(self.args.gradient_accumulation_steps) * self.processes

    @property
    def steps_per_epoch(self) -> int | None:
        """As the Trainer counts them, over what is drawn."""
        if self.training_rows is None:
            return None
        drawn = self.drawn * self.processes
        whole = self.args.dataloader_drop_last
        batches = self.training_rows // drawn if whole else math.ceil(self.training_rows / drawn)
        return max(1, math.ceil(batches / int(self.args.gradient_accumulation_steps)))

    @property
    def steps(self) -> int:
        """Optimisation steps of the run."""
        if self.args.max_steps > 0:
            return int(self.args.max_steps)
        assert self.steps_per_epoch is not None
        return math.ceil(float(self.args.num_train_epochs) * self.steps_per_epoch)

    @property
    def sifting(self) -> range:
        """The steps, from 0, that sift."""
        if self.args.sift_keep_ratio == 1:
            return range(0)
        begin = steps_of(self.args.sift_warmup_steps, self.steps)
        end = self.steps - steps_of(self.args.sift_cooldown_steps, self.steps)
        return range(begin, end, self.args.sift_interval)

    @property
    def scored_steps(self) -> int:
        """How many steps score their candidates with the model: none, for the random control."""
        return len(self.sifting) if scores_with_model(self.args) else 0

    # ---- memory of a process, in bytes ----

    @cached_property
    def parameters(self) -> int:
        """Numbers to train, tied ones once."""
        with torch.device("meta"):
            model = BertForPreTraining(self.config)
        return sum(parameter.numel() for parameter in model.parameters())

    @property
    def weight_bytes(self) -> int:
        """Weights in fp32; gradients take as much, and so does each moment of AdamW."""
        return 4 * self.parameters

    @cached_property
    def activation_bytes(self) -> int:
        """What the forward of a micro-batch keeps for its backward."""
        return activation_bytes(
            self.config,
            self.kept,
            self.length,
            self._labels,
            labelled_only=wants_masked_only_head(self.args),
            on_gpu=self.counts_gpu_kernels,
            bf16=self.mixed_precision,
        )

    @property
    def loss_bytes(self) -> int:
        """Two gradients of the logits, in fp32, which the backward of the loss holds at a time."""
        everywhere = self.kept * self.length
        predictions = self._labels if wants_masked_only_head(self.args) else everywhere
        return int(2 * 4 * self.config.vocab_size * predictions)

    @property
    def memory_bytes(self) -> int:
        """At most, and without what the framework itself takes."""
        return 4 * self.weight_bytes + self.activation_bytes + self.loss_bytes

    @property
    def sharded_bytes(self) -> float:
        """The same with weights, gradients and moments sharded over all processes (ZeRO-3, FSDP2),
        without the weights of a block that are gathered at a time."""
        return self.memory_bytes - 4 * self.weight_bytes * (1 - 1 / self.processes)

    @property
    def mixed_precision(self) -> bool:
        return bool(self.args.bf16 or self.args.fp16)

    @property
    def counts_gpu_kernels(self) -> bool:
        if self.on_gpu is None:
            return self.mixed_precision or torch.accelerator.is_available()
        return self.on_gpu

    @property
    def _labels(self) -> int:
        """Of a micro-batch that is trained on; a row has at least one."""
        return max(self.kept, round(self.label_share * self.kept * self.length))

    # ---- operations of all processes ----

    @property
    def shape(self) -> BertShape:
        return BertShape(
            self.config.hidden_size,
            self.config.intermediate_size,
            self.config.num_hidden_layers,
            self.config.vocab_size,
            self.length,
            self.label_share,
        )

    @property
    def exit_block(self) -> int:
        layer, depth = self.args.sift_exit_layer, self.config.num_hidden_layers
        return int(depth if layer == -1 else layer)

    @property
    def training_flops(self) -> float:
        """Forward and backward of a step."""
        computed: Computed = "everywhere"
        if wants_masked_only_head(self.args):  # at most: compiled, the last block may stay
            computed = "labelled_head" if self.args.torch_compile else "labelled_block"
        tokens = self.kept * self.micro_batches * self.length
        return forward_backward(self.shape, computed) * tokens

    @property
    def scoring_flops(self) -> float:
        """Scoring of a step that does."""
        computed: Computed = "everywhere"
        if wants_masked_only_head(self.args):
            computed = "labelled_block"
        tokens = self.drawn * self.micro_batches * self.length
        fraction = self.args.sift_token_fraction
        return scoring(self.shape, self.exit_block, computed, fraction) * tokens

    @property
    def run_flops(self) -> float:
        return self.steps * self.training_flops + self.scored_steps * self.scoring_flops

    @property
    def paper_overhead(self) -> float | None:
        """Scoring over forward and backward as the paper measured it in this setting, if it did."""
        ours = {name: getattr(self.config, name) for name in PAPER_SHAPE}
        hours = PAPER_HOURS.get(self.args.sift_criterion, {}).get(self.exit_block)
        if hours is None or ours != PAPER_SHAPE or self.length != PAPER_LENGTH:
            return None
        return hours / PAPER_FORWARD_BACKWARD_HOURS if self.args.sift_keep_ratio == 0.5 else None
