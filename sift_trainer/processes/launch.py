"""Did a run get the processes and the wrapper that it was started for?

Several launch lines drop distribution without a word and end with status 0: processes that train
alone, or side by side without ever averaging their gradients. docs/distributed.md lists them.
"""

import os
from dataclasses import dataclass, field
from typing import Literal

import psutil
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainingArguments
from transformers.training_args import ParallelMode

_CONFIG = {"ddp": "ddp_8gpu", "deepspeed": "deepspeed_zero2", "fsdp2": "fsdp2_8gpu"}

_AVERAGED_ELSEWHERE = {
    ParallelMode.TPU,
    ParallelMode.SAGEMAKER_DATA_PARALLEL,
    ParallelMode.SAGEMAKER_MODEL_PARALLEL,
}


@dataclass
class LaunchArguments:
    """What a run has to be launched as: it fails at its start if it was not.

    Raises:
        ValueError: at construction, for a world size below 1.
    """

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
    asked: LaunchArguments, args: TrainingArguments, state: AcceleratorState | None = None
) -> None:
    """Hold what the run is against what it was asked to be, by its fields and by its launcher.

    Args:
        asked: what the run's own configuration asks for.
        args: know what the launcher brought about.
        state: that of the Accelerator; None before there is one, when it is foretold.

    Raises:
        ValueError: names what was asked for, what there is, and a launch line that works.
    """
    if args.distributed_state is None or args.parallel_mode in _AVERAGED_ELSEWHERE:
        return
    world_size = int(args.distributed_state.num_processes)
    wanted = _wanted_wrapper(args)
    wrapper = _foretold(wanted, args) if state is None else _wrapper_of(state)
    _check_processes(world_size, wanted or "ddp", args)
    if wanted == "fsdp1":
        raise ValueError(
            "FSDP version 1 is asked for, whose shards cannot be scored with a part of the model; "
            f"use fsdp_version: 2, as in {_line('fsdp2', world_size, args)}"
        )
    if wanted not in (None, wrapper):
        raise ValueError(
            f"{wanted} is asked for, but the model will be in {_name(wrapper)}; start it with "
            f"{_line(wanted or wrapper, world_size, args)}"
        )
    if world_size > 1 and wrapper == "none":
        raise ValueError(
            f"{world_size} processes train, but none would average its gradients with the others: "
            f"without a GPU, ddp_backend={args.ddp_backend!r} alone does not distribute; start "
            f"them with {_line('ddp', world_size, args)}"
        )
    if asked.world_size not in (None, world_size):
        raise ValueError(
            f"world_size={asked.world_size} is asked for, but there are {world_size}; start them "
            f"with {_line(asked.wrapper or wanted or 'ddp', asked.world_size or 1, args)}"
        )
    alone = world_size == 1 and {asked.wrapper, wrapper} == {"none", "ddp"}  # which is the same
    if asked.wrapper not in (None, wrapper) and not alone:
        raise ValueError(
            f"wrapper={asked.wrapper!r} is asked for, but the model will be in {_name(wrapper)}; "
            f"start it with {_line(asked.wrapper or wrapper, world_size, args)}"
        )


def check_wrapped(model: nn.Module, args: TrainingArguments) -> None:
    """Refuse to train what nothing keeps equal on all processes.

    Args:
        model: the one that `training_step` is given.

    Raises:
        ValueError: if there are several processes and no wrapper that averages gradients.
    """
    if args.world_size == 1 or args.parallel_mode in _AVERAGED_ELSEWHERE:
        return
    model = getattr(model, "_orig_mod", model)  # compiled after it was wrapped
    engine = any(cls.__name__ == "DeepSpeedEngine" for cls in type(model).__mro__)
    if not engine and not isinstance(model, (DistributedDataParallel, FSDPModule)):
        raise ValueError(
            f"{args.world_size} processes train, but {type(model).__name__} is in no wrapper that "
            "averages gradients (DistributedDataParallel, DeepSpeedEngine, FSDPModule); start them "
            f"with {_line('ddp', args.world_size, args)}"
        )


def _check_processes(world_size: int, wanted: str, args: TrainingArguments) -> None:
    """Whether all processes that the launcher was asked for found each other."""
    started = int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else 1
    if started > world_size:
        raise ValueError(
            f"{started} processes were started (WORLD_SIZE), but each would train alone: the world "
            f"size is {world_size}; start them with {_line(wanted, started, args)}"
        )
    if _started_alone_for_several():
        raise ValueError(
            "accelerate launch was asked for several processes, but has started one: --cpu and "
            "distributed_type: MULTI_CPU do not distribute; start one with --num_processes 1, or "
            f"several with {_line('ddp', 2, args)}"
        )


def _started_alone_for_several() -> bool:
    """Whether `accelerate launch` started this one process where it was asked for several.

    Only then does it set an address to meet at, which it was not given itself, and no rank.
    """
    if {"RANK", "LOCAL_RANK"} & os.environ.keys() or not _is_true("ACCELERATE_USE_CPU"):
        return False
    try:
        launcher = psutil.Process(os.getppid()).environ()
    except psutil.Error:
        return False
    return "MASTER_ADDR" in os.environ and "MASTER_ADDR" not in launcher


def _wanted_wrapper(args: TrainingArguments) -> str | None:
    """DeepSpeed or FSDP, if the arguments or `accelerate launch` ask for one."""
    if args.deepspeed or _is_true("ACCELERATE_USE_DEEPSPEED"):
        return "deepspeed"
    if args.fsdp_plugin_args is not None:
        return f"fsdp{args.fsdp_plugin_args['fsdp_version']}"
    if _is_true("ACCELERATE_USE_FSDP"):
        return f"fsdp{os.environ.get('FSDP_VERSION', '1')}"
    return None


def _foretold(wanted: str | None, args: TrainingArguments) -> str:
    """What an Accelerator will wrap the model in: DeepSpeed unless it is held to the CPU, FSDP on
    what it counts as GPUs."""
    kind = args.distributed_state.distributed_type
    if wanted == "deepspeed" and not _is_true("ACCELERATE_USE_CPU"):
        return wanted
    if kind == DistributedType.NO:
        return "none"
    sharded = wanted is not None and wanted != "deepspeed" and kind != DistributedType.MULTI_CPU
    return wanted if wanted is not None and sharded else "ddp"


def _wrapper_of(state: AcceleratorState) -> str:
    if state.distributed_type == DistributedType.DEEPSPEED:
        return "deepspeed"
    if state.distributed_type == DistributedType.FSDP:
        return f"fsdp{state.fsdp_plugin.fsdp_version}"
    return "none" if state.distributed_type == DistributedType.NO else "ddp"


def _is_true(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "on", "y", "t")


def _name(wrapper: str) -> str:
    return "no wrapper" if wrapper == "none" else wrapper


def _line(wrapper: str, processes: int, args: TrainingArguments) -> str:
    """A launch line that works."""
    if wrapper not in _CONFIG:
        return "'accelerate launch --num_processes 1 SCRIPT ...'"
    config = f"--config_file configs/accelerate/{_CONFIG[wrapper]}.yaml"
    line = f"accelerate launch {config} --num_processes {max(processes, 2)}"
    if args.device.type != "cpu":
        return f"'{line} SCRIPT ...'"
    if wrapper == "fsdp2":
        return f"'{line} SCRIPT ...' on GPUs: Accelerate has no FSDP for the CPU"
    unset = ", and ACCELERATE_USE_CPU unset" if _is_true("ACCELERATE_USE_CPU") else ""
    return f"'{line} --mixed_precision no SCRIPT ... --use_cpu True'{unset}"
