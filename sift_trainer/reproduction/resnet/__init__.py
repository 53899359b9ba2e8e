"""The paper's ResNet experiments (section 7.2): from one configuration to its tables."""

from sift_trainer.reproduction.resnet.job import IMAGE_CLASSIFICATION, main

__all__ = ["IMAGE_CLASSIFICATION", "main"]
