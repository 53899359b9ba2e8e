"""The settings of an image classification job, and the checks that need several of them."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from sift_trainer.arguments import SiftTrainingArguments
from sift_trainer.early_exit.adapter import check_exit
from sift_trainer.processes.launch import LaunchArguments
from sift_trainer.reproduction.configuration import Config, ConfigError
from sift_trainer.reproduction.images import ImageArguments
from sift_trainer.reproduction.resnet.model import EarlyExitResNetConfig
from sift_trainer.reproduction.resnet.one_cycle import check_one_cycle
from sift_trainer.reproduction.runs.time_budget import check_cooldown
from sift_trainer.reproduction.runs.training import check_runs, is_finished


@dataclass
class ResNetArguments:
    """Shape of the two-classifier ResNet that is trained from scratch; by default ResNet-50."""

    stem: Literal["imagenet", "cifar"] = field(
        default="imagenet", metadata={"help": "cifar: for images of about 32 pixels."}
    )
    depths: list[int] = field(default_factory=lambda: [3, 4, 6, 3])
    hidden_sizes: list[int] = field(default_factory=lambda: [256, 512, 1024, 2048])
    embedding_size: int = field(default=64, metadata={"help": "Output channels of the stem."})
    layer_type: Literal["bottleneck", "basic"] = "bottleneck"
    channels_last: bool = field(
        default=False,
        metadata={"help": "Memory layout of images and convolutions; faster on GPUs with bf16."},
    )

    def config(self, num_labels: int) -> EarlyExitResNetConfig:
        """The model's configuration; raises `ValueError` for a shape that cannot work."""
        shape = asdict(self)
        del shape["channels_last"]
        return EarlyExitResNetConfig(**shape, num_labels=num_labels)


@dataclass
class DurationArguments:
    """When a run ends, other than with `max_steps`."""

    same_time_as: str | None = field(
        default=None,
        metadata={"help": "End after the training seconds of this run of the same grid cell."},
    )
    train_seconds: float | None = field(
        default=None, metadata={"help": "End after this number of training seconds."}
    )

    def __post_init__(self) -> None:
        if self.same_time_as is not None and self.train_seconds is not None:
            raise ValueError(
                f"same_time_as={self.same_time_as!r} and train_seconds={self.train_seconds}: set "
                "only one of them"
            )
        if self.train_seconds is not None and not 0 < self.train_seconds < math.inf:
            raise ValueError(f"train_seconds={self.train_seconds} must be positive, such as 3600")


class Settings(NamedTuple):
    """One object for each group of fields, of a run or of what all runs share."""

    model: ResNetArguments
    images: ImageArguments
    duration: DurationArguments
    launch: LaunchArguments
    args: SiftTrainingArguments


KINDS = tuple(Settings.__annotations__.values())


def check(config: Config) -> None:
    """Refuse combinations of fields that cannot work, with a `ConfigError` that names the run."""
    check_runs(config, Settings, ("images", "launch"), _check_run)
    for name, instances in config.runs.items():
        reference = waits_for(name, Settings(*instances))
        if reference is not None:
            _check_reference(name, reference, config)


def waits_for(name: str, run: Settings) -> str | None:
    """The run of the same grid cell whose training time the run called ``name`` gets, if any."""
    if run.duration.same_time_as is None:
        return None
    return str(PurePosixPath(name).with_name(run.duration.same_time_as))


def _check_run(run: Settings) -> None:
    smallest, size = run.model.config(num_labels=2).smallest_side, run.images.setting("image_size")
    if size < smallest:
        raise ValueError(
            f"image_size={size} is too small for stem={run.model.stem!r}; use {smallest} or more"
        )
    if run.args.sift_keep_ratio < 1:
        check_exit(run.args.sift_exit_layer, depth=2, name="EarlyExitResNetForImageClassification")
    check_one_cycle(run.args)
    if run.duration != DurationArguments():
        check_cooldown(run.args)


def _check_reference(name: str, reference: str, config: Config) -> None:
    field_of_run = f"run {name!r}: same_time_as: {reference!r}"
    before = config.names[: config.names.index(name)]
    if reference not in before:
        raise ConfigError(
            f"{field_of_run} must be a run before it, one of {', '.join(before) or 'none'}"
        )
    folder = Path(str(Settings(*config.instances).args.output_dir)) / reference
    if reference not in config.runs and not is_finished(folder, max_steps=0):
        raise ConfigError(
            f"{field_of_run} is not finished in {folder}; train it first, or in the same call: "
            f"--runs {reference} {name}"
        )
