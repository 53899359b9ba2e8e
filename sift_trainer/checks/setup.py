"""Settings that cannot work are refused at construction."""

from typing import Any

from accelerate import ParallelismConfig
from torch import nn
from transformers import PreTrainedConfig, TrainerCallback, TrainingArguments

from sift_trainer.arguments import SiftArguments, scores_with_model
from sift_trainer.callback import SiftCallback
from sift_trainer.checks.batches import check_collated_samples, check_packing
from sift_trainer.early_exit import exit_at
from sift_trainer.measuring.held_out import can_be_drawn_from
from sift_trainer.processes.launch import LaunchArguments, check_launch
from sift_trainer.scoring.criteria import CRITERIA
from sift_trainer.scoring.tasks import task_of
from sift_trainer.selection.schedule import num_candidates, num_kept, num_skipped, steps_of


def check_run(trainer: Any, batch_size: int, mixin: type) -> None:
    """Refuse, at construction, what a run that selects could not do or would do wrongly."""
    sift, args = trainer.sift, trainer.args
    check_launch(LaunchArguments(), args, trainer.accelerator.state)
    check_parallelism(sift, trainer.accelerator.parallelism_config)
    _check_callbacks(trainer.callback_handler.callbacks)
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    check_packing(args, trainer.data_collator)
    check_collated_samples(
        sift, type(trainer), model, trainer.train_dataset, trainer.data_collator, mixin
    )
    _check_arguments(args)
    check_batch_size(sift, batch_size)
    if args.accelerator_config.split_batches:
        _check_split_batch(sift, batch_size, args.world_size)
    if scores_with_model(sift):
        _check_routing(model)
        exit_at(model, sift.sift_exit_layer)
        task_of(model).values(CRITERIA[sift.sift_criterion])
    _check_audits(sift, args, trainer.eval_dataset)
    if sift.sift_gate == "descent":
        sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
        _check_gate(sift, trainer.held_out, batch_size, sharded)


def _check_callbacks(callbacks: list[TrainerCallback]) -> None:
    measuring = sum(isinstance(callback, SiftCallback) for callback in callbacks)
    if measuring > 1:
        raise ValueError(
            f"callbacks has {measuring} SiftCallbacks, of which only the first would measure; give "
            "one, or none: SiftTrainer adds its own"
        )


def _check_arguments(args: TrainingArguments) -> None:
    if args.n_gpu > 1:
        raise ValueError(
            f"one process drives {args.n_gpu} GPUs (nn.DataParallel), which splits a batch after "
            "the selection; start one process per GPU with `accelerate launch`"
        )
    if args.train_sampling_strategy == "batch_rebalance":
        raise ValueError(
            "train_sampling_strategy='batch_rebalance' makes the batches itself and cannot draw "
            "more candidates; use 'random' or 'group_by_length'"
        )
    if args.world_size > 1 and not args.accelerator_config.even_batches:
        raise ValueError(
            "accelerator_config.even_batches=False lets processes draw different numbers of "
            "samples, but all must keep the same number; use even_batches=True"
        )


def _check_audits(sift: SiftArguments, args: TrainingArguments, eval_dataset: Any) -> None:
    checkpointing = args.gradient_checkpointing and (args.gradient_checkpointing_kwargs or {})
    if sift.sift_audit_steps and checkpointing and checkpointing.get("use_reentrant"):
        raise ValueError(
            f"sift_audit_steps={sift.sift_audit_steps} computes gradients that gradient "
            "checkpointing does not allow with use_reentrant=True; use "
            "gradient_checkpointing_kwargs={'use_reentrant': False}, which is the default"
        )
    if sift.sift_held_out == "evaluation" and not can_be_drawn_from(eval_dataset):
        kind = "None" if eval_dataset is None else type(eval_dataset).__name__
        raise ValueError(
            f"sift_held_out='evaluation' draws samples of eval_dataset, which is {kind}; give a "
            "data set with a length, or use sift_held_out='candidates'"
        )


def _check_gate(sift: SiftArguments, held_out: str, batch_size: int, sharded: bool) -> None:
    if sharded:
        raise ValueError(
            f"sift_gate={sift.sift_gate!r} compares gradients, but under DeepSpeed and FSDP no "
            "process has whole gradients; use DDP, or sift_gate='lift'"
        )
    half = num_candidates(batch_size, sift.sift_keep_ratio) // 2
    if held_out == "candidates" and num_kept(half, sift.sift_keep_ratio) == half:
        raise ValueError(
            f"sift_gate={sift.sift_gate!r} sifts half of the candidates, but "
            f"per_device_train_batch_size={batch_size} with sift_keep_ratio="
            f"{sift.sift_keep_ratio} leaves nothing to drop there; use a batch of 8, for example"
        )


def _check_routing(model: nn.Module) -> None:
    """Refuse experts that take a share of the batch's tokens, as in NLLB-MoE."""
    config = getattr(model, "config", None)
    if isinstance(config, PreTrainedConfig) and hasattr(config, "moe_eval_capacity_token_fraction"):
        raise ValueError(
            f"{type(model).__name__} routes by expert_capacity over the whole batch, so the score "
            "of a sample depends on the others; use sift_criterion='random' or sift_keep_ratio=1.0"
        )


def check_parallelism(sift: SiftArguments, parallelism: ParallelismConfig | None) -> None:
    """Refuse processes that share samples or their positions, because each process sifts alone."""
    names = ("tp_size", "cp_size", "sp_size")
    sizes = {name: getattr(parallelism, name, 1) for name in names}
    if any(size > 1 for size in sizes.values()):
        raise ValueError(
            f"parallelism_config has {sizes}, so processes share samples, but each process sifts "
            "its own; use 1 for these, which leaves data parallelism"
        )


def check_batch_size(sift: SiftArguments, batch_size: int) -> None:
    """Refuse a batch so small that nothing is dropped, or that ``sift_skip_top`` is no sample."""
    drawn = num_candidates(batch_size, sift.sift_keep_ratio)
    if drawn == batch_size:
        raise ValueError(
            f"sift_keep_ratio={sift.sift_keep_ratio} with per_device_train_batch_size={batch_size} "
            "draws no more candidates than it trains on; use a larger batch or a smaller ratio"
        )
    if sift.sift_skip_top > 0 and not num_skipped(drawn, batch_size, sift.sift_skip_top):
        raise ValueError(
            f"sift_skip_top={sift.sift_skip_top} with per_device_train_batch_size={batch_size} is "
            f"none of the {drawn} candidates; use a larger batch or a larger share, or 0"
        )


def _check_split_batch(sift: SiftArguments, batch_size: int, processes: int) -> None:
    """Refuse a batch that ``split_batches`` cannot share evenly, before or after the selection."""
    drawn = num_candidates(batch_size, sift.sift_keep_ratio)
    if batch_size % processes or drawn % processes:
        raise ValueError(
            f"accelerator_config.split_batches=True shares a batch between {processes} processes, "
            f"but per_device_train_batch_size={batch_size} of {drawn} candidates "
            f"(sift_keep_ratio={sift.sift_keep_ratio}) cannot be shared evenly; use "
            f"{processes * batch_size} with sift_keep_ratio=0.5, for example"
        )


def check_steps(sift: SiftArguments, total: int) -> None:
    """Refuse a warm-up and cool-down that leave no step of ``total`` to sift."""
    warmup = steps_of(sift.sift_warmup_steps, total)
    cooldown = steps_of(sift.sift_cooldown_steps, total)
    if warmup + cooldown >= total:
        raise ValueError(
            f"sift_warmup_steps={sift.sift_warmup_steps:.12g} and sift_cooldown_steps="
            f"{sift.sift_cooldown_steps:.12g} are {warmup} + {cooldown} steps of a run of {total}, "
            "so no step would sift; their sum must be below the run, such as 0 and 0"
        )
