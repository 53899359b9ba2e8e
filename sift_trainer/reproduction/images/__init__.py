"""Labelled images become augmented batches."""

from sift_trainer.reproduction.images.arguments import ImageArguments
from sift_trainer.reproduction.images.loading import ImageData, load_images

__all__ = ["ImageArguments", "ImageData", "load_images"]
