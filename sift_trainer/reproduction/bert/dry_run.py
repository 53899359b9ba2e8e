"""What a run of BERT pre-training takes, computed before it starts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import BertConfig, BertForPreTraining

from sift_trainer.arguments import SiftTrainingArguments, scores_with_model, wants_masked_only_head
from sift_trainer.early_exit.adapter import check_exit
from sift_trainer.reproduction.bert.flops import BertShape, Computed, forward_backward, scoring
from sift_trainer.selection.schedule import num_candidates, steps_of


@dataclass(frozen=True)
class Plan:
    """One run of `BertForPreTraining` from scratch, in numbers. ``str(plan)`` is the dry run.

    Rows count as full. Each process holds the whole model, as under DDP. No weights are made.

    Args:
        length: tokens of a row.
        label_share: share of the tokens that are masked, such as 0.15.
    """

    name: str
    config: BertConfig
    args: SiftTrainingArguments
    length: int
    label_share: float
    processes: int
    training_rows: int | None = None

    @property
    def kept(self) -> int:
        """Rows of a step that are trained on."""
        accumulated = int(self.args.gradient_accumulation_steps) * self.processes
        return accumulated * int(self.args.per_device_train_batch_size)

    @property
    def drawn(self) -> int:
        """Rows of a step before selection."""
        batch = int(self.args.per_device_train_batch_size)
        return self.kept // batch * num_candidates(batch, self.args.sift_keep_ratio)

    @property
    def steps(self) -> int:
        if self.args.max_steps <= 0:
            raise ValueError(
                f"run {self.name!r}: max_steps={self.args.max_steps}: a dry run needs a number of "
                "steps, such as 800000"
            )
        return int(self.args.max_steps)

    @property
    def sifting(self) -> Sequence[int]:
        """The steps, from 0, that sift."""
        if self.args.sift_keep_ratio == 1:
            return range(0)
        begin = steps_of(self.args.sift_warmup_steps, self.steps)
        end = self.steps - steps_of(self.args.sift_cooldown_steps, self.steps)
        interval = self.args.sift_interval
        if interval > 0:
            return range(begin, end, interval)
        return [step for step in range(begin, end) if (step - begin) % -interval != -interval - 1]

    @property
    def scored_steps(self) -> int:
        """Number of steps that score their candidates with the model: 0 for the random control."""
        return len(self.sifting) if scores_with_model(self.args) else 0

    @property
    def exit_block(self) -> int:
        depth = self.config.num_hidden_layers
        return check_exit(self.args.sift_exit_layer, depth, "BertForPreTraining")

    @property
    def training_flops(self) -> float:
        """Forward and backward of a step, of all processes."""
        return forward_backward(self._shape, self._computed) * self.kept * self.length

    @property
    def scoring_flops(self) -> float:
        """Scoring of a step that scores, of all processes."""
        fraction = self.args.sift_token_fraction
        token = scoring(self._shape, self.exit_block, self._computed, fraction)
        return token * self.drawn * self.length

    @property
    def _computed(self) -> Computed:
        return "labelled_block" if wants_masked_only_head(self.args) else "everywhere"

    @property
    def _shape(self) -> BertShape:
        return BertShape.of(self.config, self.length, self.label_share)

    def __str__(self) -> str:
        rows = {"trained on": self.kept * self.steps, "drawn": self.drawn * self.steps}
        if self.scored_steps:
            rows["scored"] = self.drawn * self.scored_steps
        lines = {
            name: f"{count:,} rows, {count * self.length:,} tokens" for name, count in rows.items()
        }
        lines["epochs"] = "not known before the data is prepared"
        if self.training_rows is not None:
            epochs = self.kept * self.steps / self.training_rows
            lines["epochs"] = f"{epochs:.2f} of {self.training_rows:,} rows"
        with torch.device("meta"):
            parameters = int(BertForPreTraining(self.config).num_parameters())
        # Four numbers of 4 bytes: weight, gradient, and AdamW's two moments.
        gigabytes = f"{16 * parameters / 1e9:.2f} GB"
        lines["parameters"] = f"{parameters:,}, with gradients and AdamW {gigabytes} a process"
        training, whole = self.training_flops, self.steps * self.training_flops
        lines["forward + backward"] = f"{_flop(training)} a step"
        scored = 0.0
        if self.scored_steps:
            share = f"{self.scoring_flops / training:.1%} of forward + backward"
            lines["scoring"] = f"{_flop(self.scoring_flops)} a step, {share}"
            scored = self.scored_steps * self.scoring_flops
        whole += scored
        lines["whole run"] = f"{_flop(whole)}, {scored / whole:.1%} of it scoring"
        return "\n".join([self._title(), *(f"  {name:<20}{text}" for name, text in lines.items())])

    def _title(self) -> str:
        if not self.sifting:
            return f"{self.name}: no sifting"
        exit_block = f" at exit {self.exit_block}" if self.scored_steps else ""
        return (
            f"{self.name}: {self.args.sift_criterion}{exit_block} keeps {self.kept:,} of "
            f"{self.drawn:,} in steps {self.sifting[0]:,} to {self.sifting[-1]:,} "
            f"({len(self.sifting) / self.steps:.1%} of {self.steps:,})"
        )


def _flop(operations: float) -> str:
    """Three digits and a unit, such as 73.1 TFLOP."""
    exponent = min(7, int(math.log10(operations) // 3))
    return f"{operations / 1000**exponent:.3g} {' kMGTPEZ'[exponent].strip()}FLOP"
