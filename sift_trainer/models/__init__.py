"""Models that are built to leave early. Importing this registers them with Transformers' Auto
classes and with `sift_trainer.register_exit`."""

from sift_trainer.models.classifier_inputs import check_labels, check_pixel_values
from sift_trainer.models.resnet import EarlyExitResNetConfig, EarlyExitResNetForImageClassification

__all__ = [
    "EarlyExitResNetConfig",
    "EarlyExitResNetForImageClassification",
    "check_labels",
    "check_pixel_values",
]
