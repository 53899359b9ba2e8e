"""Did a run get the processes and the wrapper that it was started for?

docs/distributed.md lists launch lines that silently train alone, or do not average gradients.
"""

import os
from dataclasses import dataclass, field
from typing import Literal

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, parse_flag_from_env
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainingArguments
from transformers.training_args import ParallelMode

_CONFIG = {"ddp": "ddp_8gpu", "deepspeed": "deepspeed_zero2", "fsdp2": "fsdp2_8gpu"}


@dataclass
class LaunchArguments:
    """How a run must be launched; a run that is launched differently fails at its start."""

    world_size: int | None = field(
        default=None, metadata={"help": "Processes that must train together; any if unset."}
    )
    wrapper: Literal["none", "ddp", "deepspeed", "fsdp2"] | None = field(
        default=None, metadata={"help": "What the model must be wrapped in; anything if unset."}
    )

    def __post_init__(self) -> None:
        if self.world_size is not None and self.world_size < 1:
            raise ValueError(f"world_size={self.world_size} must be 1 or more, such as 8")


def check_launch(
    launch: LaunchArguments, args: TrainingArguments, state: AcceleratorState | None = None
) -> None:
    """Compare the processes and the wrapper with what the configuration and the launcher requested.

    Raises:
        ValueError: for a difference, with a launch line that works. The wrapper of the Accelerator
            is compared if its ``state`` is given.
    """
    if args.distributed_state is None or args.parallel_mode == ParallelMode.TPU:
        return
    world_size = int(args.distributed_state.num_processes)
    unsharded = "ddp" if world_size > 1 else "none"  # DDP of one process is no wrapper
    launcher = _requested_wrapper(args) or unsharded
    configured = unsharded if (launch.wrapper, world_size) == ("ddp", 1) else launch.wrapper
    if launcher == "fsdp1":
        raise ValueError(
            "FSDP version 1 is requested, but its shards cannot be scored with a part of the "
            f"model; use fsdp_version: 2, as in {_line('fsdp2', world_size, args)}"
        )
    started = int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else 1
    if started > world_size:
        raise ValueError(
            f"{started} processes were started (WORLD_SIZE), but each would train alone: the world "
            f"size is {world_size}; start them with {_line(launcher, started, args)}"
        )
    if launch.world_size not in (None, world_size):
        raise ValueError(
            f"world_size={launch.world_size} is requested, but there are {world_size} processes; "
            f"start them with {_line(launch.wrapper or launcher, launch.world_size or 1, args)}"
        )
    _check_wrapper(configured, launcher, world_size, args)
    if state is not None:
        _check_wrapper(launcher, _wrapper_of(state), world_size, args)


def check_wrapped(model: nn.Module, args: TrainingArguments) -> None:
    """Refuse several processes that train a model without a wrapper that averages gradients."""
    if args.world_size == 1 or args.parallel_mode == ParallelMode.TPU:
        return
    model = getattr(model, "_orig_mod", model)  # compiled after it was wrapped
    engine = any(cls.__name__ == "DeepSpeedEngine" for cls in type(model).__mro__)
    if not engine and not isinstance(model, (DistributedDataParallel, FSDPModule)):
        raise ValueError(
            f"{args.world_size} processes train, but {type(model).__name__} is in no wrapper that "
            f"averages gradients; start them with {_line('ddp', args.world_size, args)}"
        )


def _check_wrapper(wanted: str | None, found: str, processes: int, args: TrainingArguments) -> None:
    if wanted is None or wanted == found or (processes, wanted, found) == (1, "none", "ddp"):
        return
    line = _line(wanted, 1 if wanted == "none" else processes, args)
    raise ValueError(
        f"wrapper={wanted!r} is requested for {processes} processes, but the model will be in "
        f"{found!r}; start it with {line}"
    )


def _requested_wrapper(args: TrainingArguments) -> str | None:
    """DeepSpeed or FSDP, if the arguments or `accelerate launch` request one."""
    if args.deepspeed or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
        return "deepspeed"
    if args.fsdp_plugin_args is not None:
        return f"fsdp{args.fsdp_plugin_args['fsdp_version']}"
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return f"fsdp{os.environ.get('FSDP_VERSION', '1')}"
    return None


def _wrapper_of(state: AcceleratorState) -> str:
    if state.distributed_type == DistributedType.FSDP:
        return f"fsdp{state.fsdp_plugin.fsdp_version}"
    names = {DistributedType.DEEPSPEED: "deepspeed", DistributedType.NO: "none"}
    return names.get(state.distributed_type, "ddp")


def _line(wrapper: str, processes: int, args: TrainingArguments) -> str:
    if processes == 1 and wrapper in ("none", "ddp"):
        return "'accelerate launch --num_processes 1 SCRIPT ...'"
    config = f"--config_file configs/accelerate/{_CONFIG.get(wrapper, 'ddp_8gpu')}.yaml"
    line = f"accelerate launch {config} --num_processes {processes}"
    if args.device.type != "cpu" or wrapper == "fsdp2":
        return f"'{line} SCRIPT ...' on GPUs"
    return f"'{line} --mixed_precision no SCRIPT ... --use_cpu True', ACCELERATE_USE_CPU unset"
