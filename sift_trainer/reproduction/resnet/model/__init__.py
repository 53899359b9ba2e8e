"""Models with an early exit of their own. Importing this module registers them with the Auto
classes of Transformers and with `sift_trainer.register_exit`."""

from sift_trainer.reproduction.resnet.model.resnet import (
    EarlyExitResNetConfig,
    EarlyExitResNetForImageClassification,
)

__all__ = ["EarlyExitResNetConfig", "EarlyExitResNetForImageClassification"]
