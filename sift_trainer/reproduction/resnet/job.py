"""Train the two-classifier ResNet on images, once per run (section 7.2, appendix G)."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from sift_trainer import SiftTrainer, SiftTrainingArguments, WholeCheckpoints
from sift_trainer.processes.sharding import buffers_of_first
from sift_trainer.reproduction.configuration import ConfigError, parse_config
from sift_trainer.reproduction.images import ImageData, load_images
from sift_trainer.reproduction.report.history import Run
from sift_trainer.reproduction.resnet.arguments import KINDS, Settings, check, waits_for
from sift_trainer.reproduction.resnet.model import EarlyExitResNetForImageClassification
from sift_trainer.reproduction.resnet.one_cycle import OneCycleMixin
from sift_trainer.reproduction.runs.metrics import classification_metrics
from sift_trainer.reproduction.runs.time_budget import TimeBudget
from sift_trainer.reproduction.runs.training import Experiment, train_runs


class ImageClassificationTrainer(WholeCheckpoints, OneCycleMixin, SiftTrainer):
    """Trains with a one-cycle learning rate."""

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate with the running statistics of the first process, which a checkpoint has."""
        bare = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        buffers_of_first(self.accelerator, bare)()
        metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        return metrics


def main(argv: Sequence[str]) -> list[Run]:
    """Train every run of the configuration, see `train_runs`.

    Raises:
        ConfigError: before data or model are touched.
        ImportError: for a missing extra.
    """
    config = parse_config(KINDS, argv)
    check(config)
    return train_runs(IMAGE_CLASSIFICATION, config)


def load_data(settings: Settings) -> ImageData:
    """The images of both splits, after a check of every image; raises `ConfigError`."""
    main = settings.args.local_process_index == 0
    try:
        return load_images(settings.images, check=main, progress=main)
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error


def build_trainer(
    settings: Settings,
    data: ImageData,
    args: SiftTrainingArguments,
    callbacks: list[TrainerCallback],
) -> ImageClassificationTrainer:
    """The trainer of a run, with a freshly initialized model."""
    shape, duration = settings.model, settings.duration
    model = EarlyExitResNetForImageClassification(shape.config(len(data.classes)))
    model.config.id2label = dict(enumerate(data.classes))
    model.config.label2id = {name: label for label, name in enumerate(data.classes)}
    if shape.channels_last:
        model.to(memory_format=torch.channels_last)
    trainer = ImageClassificationTrainer(
        model=model,
        args=args,
        data_collator=replace(data.collator, channels_last=shape.channels_last),
        train_dataset=data.train,
        eval_dataset=data.test,
        compute_metrics=classification_metrics(),
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
        callbacks=callbacks,
    )
    seconds: float | Path | None = duration.train_seconds
    if duration.same_time_as is not None:
        seconds = Path(args.output_dir).parent / duration.same_time_as
    if seconds is not None:
        trainer.add_callback(TimeBudget(trainer, seconds))
    return trainer


def describe(settings: Settings, data: ImageData) -> dict[str, Any]:
    """A run as plain data."""
    return {
        "model": {**asdict(settings.model), "num_labels": len(data.classes)},
        "images": {
            **asdict(settings.images),
            "train_rows": len(data.train),
            "test_rows": len(data.test),
        },
        "duration": asdict(settings.duration),
    }


IMAGE_CLASSIFICATION = Experiment(
    KINDS, Settings, check, load_data, build_trainer, describe, waits_for
)
