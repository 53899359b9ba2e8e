"""A `SiftTrainer` from the names of a model and a dataset, without a training script."""

from sift_trainer.probe.from_names.building import ModelAndDataset, build_trainer

__all__ = ["ModelAndDataset", "build_trainer"]
