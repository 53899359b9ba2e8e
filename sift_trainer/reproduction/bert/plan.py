"""What a run of BERT pre-training takes: samples, memory and operations, before it starts."""

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
from sift_trainer.reproduction import paper
from sift_trainer.reproduction.bert.activation_memory import activation_bytes
from sift_trainer.reproduction.bert.flops import BertShape, Computed, forward_backward, scoring
from sift_trainer.selection.schedule import num_candidates, steps_of


@dataclass(frozen=True)
class Plan:
    """One run of `BertForPreTraining` from scratch, in numbers.

    Everything but the model's shape is read from ``args``. Rows count as full. Each process holds
    the whole model, as under DDP. No weights are made.

    Args:
        name: of the run.
        length: tokens of a row.
        label_share: share of the tokens that are masked, such as 0.15.
        processes: number of processes that train together.
        training_rows: None if not known.

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

    def __post_init__(self) -> None:
        if self.args.max_steps <= 0 and self.training_rows is None:
            raise ValueError(
                f"{self.name}: max_steps={self.args.max_steps} and an unknown number of training "
                "rows leave the number of steps open; set max_steps, such as 800000"
            )
        _ = self.exit_block  # raises for an exit that the model does not have

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
        """Micro-batches of a step, over all processes."""
        return int(self.args.gradient_accumulation_steps) * self.processes

    @property
    def steps_per_epoch(self) -> int | None:
        """As the Trainer counts them, over the rows that are drawn."""
        if self.training_rows is None:
            return None
        batches = self.training_rows / (self.drawn * self.processes)
        whole = math.floor(batches) if self.args.dataloader_drop_last else math.ceil(batches)
        return max(1, math.ceil(whole / int(self.args.gradient_accumulation_steps)))

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
        """Number of steps that score their candidates with the model: 0 for the random control."""
        return len(self.sifting) if scores_with_model(self.args) else 0

    # ---- memory of a process ----

    @property
    def on_gpu(self) -> bool:
        """Whether the memory is that of GPU kernels: in mixed precision, and if there is a GPU."""
        return bool(self.args.bf16 or self.args.fp16) or torch.accelerator.is_available()

    @cached_property
    def memory(self) -> dict[str, int]:
        """Bytes by what needs them. Their sum is an upper estimate of the peak, without the
        framework's own memory. Weights are in fp32."""
        with torch.device("meta"):
            weights = 4 * int(BertForPreTraining(self.config).num_parameters())
        # Each row has at least one label.
        labels = max(self.kept, round(self.label_share * self.kept * self.length))
        narrow = wants_masked_only_head(self.args)
        activations = activation_bytes(
            self.config,
            self.kept,
            self.length,
            labels,
            labelled_only=narrow,
            on_gpu=self.on_gpu,
            bf16=bool(self.args.bf16 or self.args.fp16),
        )
        # The backward of the loss holds two gradients of the logits, in fp32.
        logits = (labels if narrow else self.kept * self.length) * int(self.config.vocab_size)
        return {
            "weights": weights,
            "gradients": weights,
            "AdamW": 2 * weights,
            "activations": activations,
            "loss": 2 * 4 * logits,
        }

    # ---- operations of all processes ----

    @property
    def exit_block(self) -> int:
        depth = self.config.num_hidden_layers
        return check_exit(self.args.sift_exit_layer, depth, BertForPreTraining.__name__)

    @property
    def training_flops(self) -> float:
        """Forward and backward of a step."""
        computed: Computed = "everywhere"
        if wants_masked_only_head(self.args):  # a compiled model may keep its last block whole
            computed = "labelled_head" if self.args.torch_compile else "labelled_block"
        tokens = self.kept * self.micro_batches * self.length
        return forward_backward(self._shape, computed) * tokens

    @property
    def scoring_flops(self) -> float:
        """Scoring of a step that scores."""
        narrow = wants_masked_only_head(self.args)
        computed: Computed = "labelled_block" if narrow else "everywhere"
        tokens = self.drawn * self.micro_batches * self.length
        fraction = self.args.sift_token_fraction
        return scoring(self._shape, self.exit_block, computed, fraction) * tokens

    @property
    def paper_overhead(self) -> float | None:
        """Scoring over forward and backward in the paper's hours; None for another setting."""
        length = int(paper.BERT_SETTING["tokens of a row"])
        bert_base = _shape(BertConfig(), length, self.label_share)
        hours = paper.SAMPLING_HOURS.get(self.args.sift_criterion, {}).get(self.exit_block)
        if hours is None or self._shape != bert_base or self.args.sift_keep_ratio != 0.5:
            return None
        return hours / (paper.FORWARD_HOURS + paper.BACKWARD_HOURS)

    @property
    def _shape(self) -> BertShape:
        return _shape(self.config, self.length, self.label_share)


def _shape(config: BertConfig, length: int, label_share: float) -> BertShape:
    return BertShape(
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.vocab_size,
        length,
        label_share,
    )
