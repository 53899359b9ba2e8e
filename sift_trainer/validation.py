"""What cannot work is refused here: at construction, or at the first batch before any update."""

from collections.abc import Mapping
from typing import Any

from accelerate import ParallelismConfig
from torch import nn
from transformers import PreTrainedConfig, TrainerCallback, TrainingArguments
from transformers.trainer_utils import has_length
from transformers.utils import logging

from sift_trainer.arguments import SiftArguments, scores_with_model
from sift_trainer.callback import SiftCallback
from sift_trainer.early_exit import exit_at
from sift_trainer.selection import (
    num_candidates,
    num_kept,
    num_skipped,
    steps_of,
)
from sift_trainer.tasks import Task, task_of

logger = logging.get_logger(__name__)


def check_setup(
    sift: SiftArguments,
    args: TrainingArguments,
    model: nn.Module,
    batch_size: int,
    callbacks: list[TrainerCallback],
) -> None:
    """Refuse at construction what a run could not do, or would do wrongly.

    Args:
        model: the bare module.
        batch_size: rows that a process trains on in a micro-batch.
    """
    measuring = sum(isinstance(callback, SiftCallback) for callback in callbacks)
    if measuring > 1:
        raise ValueError(
            f"callbacks has {measuring} SiftCallbacks, of which only the first would measure; "
            "give one, or none: SiftTrainer adds its own"
        )
    if sift.sift_keep_ratio == 1:
        return
    if args.n_gpu > 1:
        raise ValueError(
            f"one process drives {args.n_gpu} GPUs (nn.DataParallel), which splits a batch after "
            "it was sifted; start one process per GPU with `accelerate launch`, or show it one "
            "with CUDA_VISIBLE_DEVICES=0"
        )
    check_audits(sift, args)
    check_batch_size(sift, batch_size)
    if args.accelerator_config.split_batches:
        check_shared_batch(sift, batch_size, args.world_size)
    if args.train_sampling_strategy == "batch_rebalance":
        raise ValueError(
            "train_sampling_strategy='batch_rebalance' fixes the batches itself and cannot draw "
            "more candidates; use 'random' or 'group_by_length'"
        )
    if args.world_size > 1 and not args.accelerator_config.even_batches:
        raise ValueError(
            "accelerator_config.even_batches=False lets processes draw different numbers of rows, "
            "but all must keep the same number; use even_batches=True"
        )
    if scores_with_model(sift):
        check_routing(model)
        exit_at(model, sift.sift_exit_layer)
        task_of(model).criterion(sift.sift_criterion)


def check_audits(sift: SiftArguments, args: TrainingArguments) -> None:
    """Refuse the one kind of checkpointed activations through which audits cannot look."""
    how = args.gradient_checkpointing_kwargs or {}
    if sift.sift_audit_steps and args.gradient_checkpointing and how.get("use_reentrant"):
        raise ValueError(
            f"sift_audit_steps={sift.sift_audit_steps} takes gradients beside the training's, "
            "which use_reentrant=True does not allow; use "
            "gradient_checkpointing_kwargs={'use_reentrant': False}, which is the default"
        )


def held_out_of(sift: SiftArguments, evaluated: Any) -> str:
    """Whose loss audits and probe look towards: one of `HELD_OUT`."""
    if sift.sift_held_out is not None:
        return sift.sift_held_out
    return "evaluation" if _can_be_drawn_from(evaluated) else "candidates"


def _can_be_drawn_from(evaluated: Any) -> bool:
    return evaluated is not None and not isinstance(evaluated, Mapping) and has_length(evaluated)


def check_held_out(sift: SiftArguments, evaluated: Any) -> None:
    """Refuse audits towards an evaluation set of which no rows can be drawn."""
    if sift.sift_keep_ratio == 1:
        return
    if sift.sift_held_out == "evaluation" and not _can_be_drawn_from(evaluated):
        kind = "None" if evaluated is None else type(evaluated).__name__
        raise ValueError(
            f"sift_held_out='evaluation' draws rows of eval_dataset, which is {kind}; give a data "
            "set with a length, or use sift_held_out='candidates'"
        )


def check_gate(sift: SiftArguments, held_out: str, batch_size: int, sharded: bool) -> None:
    """Refuse a gate that would never know whether to open.

    Args:
        held_out: whose loss audits look towards.
        batch_size: rows that a process trains on in a micro-batch.
        sharded: whether no process has whole gradients.
    """
    if sift.sift_keep_ratio == 1 or sift.sift_gate is None:
        return
    if sharded:
        raise ValueError(
            f"sift_gate={sift.sift_gate!r} compares gradients, of which under DeepSpeed and FSDP "
            "no process has the whole; use DDP, or sift_gate=None"
        )
    if held_out != "candidates":
        return
    half = num_candidates(batch_size, sift.sift_keep_ratio) // 2
    if half == 0 or num_kept(half, sift.sift_keep_ratio) == half:
        raise ValueError(
            f"sift_gate={sift.sift_gate!r} holds half of the candidates out and sifts the other, "
            f"and per_device_train_batch_size={batch_size} with sift_keep_ratio="
            f"{sift.sift_keep_ratio} leaves nothing to drop there; use a batch of 8, say"
        )


def check_routing(model: nn.Module) -> None:
    """Refuse a mixture whose experts take a share of the batch's tokens, as NLLB-MoE's."""
    config = getattr(model, "config", None)
    if isinstance(config, PreTrainedConfig) and hasattr(config, "moe_eval_capacity_token_fraction"):
        raise ValueError(
            f"{type(model).__name__} routes by expert_capacity over the whole batch: a sample's "
            "score would depend on the rows beside it, and scoring would leave its capacity to "
            "training; use sift_criterion='random' or sift_keep_ratio=1.0"
        )


def check_window(micro_batches: int) -> None:
    """Refuse to train one batch of an accumulation window of which the others were not seen."""
    if micro_batches > 1:
        raise ValueError(
            f"a window of {micro_batches} micro-batches is trained on, and this batch is none that "
            "SiftMixin has seen, so that it cannot count the labels of the others: either "
            "get_batch_samples is overridden and has to return what super().get_batch_samples(...) "
            "returns, or training_step is, and gives super().training_step(...) a copy where it "
            "has to change the batch in place; or use gradient_accumulation_steps=1"
        )


def check_mapping(batch: Any) -> None:
    """Refuse a batch that is no mapping of fields."""
    if not isinstance(batch, Mapping):
        raise ValueError(
            f"a batch is a {type(batch).__name__}, not a mapping of fields with a row for each "
            "sample: what is trained on is made of it later, and nothing can be selected; train "
            "without SiftMixin"
        )


def check_parallelism(sift: SiftArguments, parallelism: ParallelismConfig | None) -> None:
    """Refuse processes that share rows, or the positions of rows: each sifts its own."""
    if sift.sift_keep_ratio == 1 or parallelism is None:
        return
    sizes = {name: getattr(parallelism, name) for name in ("tp_size", "cp_size", "sp_size")}
    if any(size > 1 for size in sizes.values()):
        raise ValueError(
            f"parallelism_config has {sizes}, so that processes share rows, while each sifts rows "
            "of its own; use 1 for these and distribute by data alone"
        )


def check_batch_size(sift: SiftArguments, batch_size: int) -> None:
    """Refuse a batch so small that its candidates are no more than what is kept, or that the share
    to be left out is none of them.

    Also where ``auto_find_batch_size`` has made it so small.
    """
    if sift.sift_keep_ratio == 1:
        return
    drawn = num_candidates(batch_size, sift.sift_keep_ratio)
    if drawn == batch_size:
        raise ValueError(
            f"sift_keep_ratio={sift.sift_keep_ratio} with per_device_train_batch_size={batch_size} "
            "draws no candidate more than it trains on; use a larger batch or a smaller ratio"
        )
    if sift.sift_skip_top > 0 and not num_skipped(drawn, batch_size, sift.sift_skip_top):
        raise ValueError(
            f"sift_skip_top={sift.sift_skip_top} with per_device_train_batch_size={batch_size} is "
            f"none of the {drawn} candidates; use a larger batch or a larger share, or 0"
        )


def check_shared_batch(sift: SiftArguments, batch_size: int, processes: int) -> None:
    """Refuse a batch that ``split_batches`` cannot share evenly, before or after it is sifted."""
    drawn = num_candidates(batch_size, sift.sift_keep_ratio)
    if batch_size % processes or drawn % processes:
        raise ValueError(
            f"accelerator_config.split_batches=True shares a batch between {processes} processes, "
            f"and per_device_train_batch_size={batch_size} of {drawn} candidates "
            f"(sift_keep_ratio={sift.sift_keep_ratio}) cannot be shared evenly; make both "
            f"multiples of {processes}, such as {processes * batch_size} with sift_keep_ratio=0.5"
        )


def check_steps(sift: SiftArguments, total: int) -> None:
    """Refuse a warm-up and cool-down that leave no step of ``total`` to sift."""
    if sift.sift_keep_ratio == 1:
        return
    warmup = steps_of(sift.sift_warmup_steps, total)
    cooldown = steps_of(sift.sift_cooldown_steps, total)
    if warmup + cooldown >= total:
        raise ValueError(
            f"sift_warmup_steps={sift.sift_warmup_steps:.12g} and sift_cooldown_steps="
            f"{sift.sift_cooldown_steps:.12g} are {warmup} + {cooldown} steps of a run of {total}, "
            "so no step would sift; their sum must be below the run, such as 0 and 0"
        )


def check_first_batch(
    batch: Mapping[str, Any],
    rows: int,
    expected: int,
    sift: SiftArguments,
    task: Task,
    data_rows: int | None = None,
) -> None:
    """Refuse, before any update, a batch that cannot be scored or whose samples share a row; warn
    of one with another number of rows than was asked for.

    Args:
        rows: that it has.
        expected: that were to be drawn.
        data_rows: of the training data, for each process; None where that is not known.
    """
    if rows == 1 and expected > 1 and data_rows is not None and data_rows <= 1:
        raise ValueError(
            f"the training data has {data_rows} row for a process, and {expected} candidates were "
            "to be drawn: there is nothing to select from; give more data, or use "
            "sift_keep_ratio=1.0"
        )
    if rows == 1 and expected > 1:
        raise ValueError(
            f"the first batch has 1 row where {expected} candidates were drawn: the collator packs "
            "or flattens samples into one row, and sifting selects rows; use one sample per row"
        )
    if rows != expected:
        logger.warning(
            f"the first batch has {rows} rows where {expected} candidates were to be drawn, so "
            f"{num_kept(rows, sift.sift_keep_ratio)} are trained on: the data is that small, or "
            "get_train_dataloader is overridden and has to yield round(per_device_train_batch_size "
            "/ sift_keep_ratio) rows"
        )
    needs_labels = sift.sift_criterion not in ("entropy", "random")
    missing = [name for name in task.fields if name not in batch]
    if needs_labels and missing:
        raise ValueError(
            f"sift_criterion={sift.sift_criterion!r} needs {' and '.join(map(repr, missing))} in "
            f"the batch, which has {sorted(batch)}; add them in the collator, or use "
            "sift_criterion='entropy'"
        )
