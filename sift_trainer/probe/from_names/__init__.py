"""A `SiftTrainer` from the names of a model and a dataset, without a training script."""

from sift_trainer.probe.from_names.arguments import ModelAndDataset
from sift_trainer.probe.from_names.building import Built, build_trainer

__all__ = ["Built", "ModelAndDataset", "build_trainer"]
