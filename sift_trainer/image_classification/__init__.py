"""The paper's ResNet experiments (Section 7.2) as a job: from one configuration to its tables."""

from sift_trainer.image_classification.job import IMAGE_CLASSIFICATION, main

__all__ = ["IMAGE_CLASSIFICATION", "main"]
