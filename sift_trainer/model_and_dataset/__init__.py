"""A `SiftTrainer` from the names of a model and a dataset, without a training script."""

from sift_trainer.model_and_dataset.arguments import ModelAndDataset
from sift_trainer.model_and_dataset.building import Built, build_trainer

__all__ = ["Built", "ModelAndDataset", "build_trainer"]
