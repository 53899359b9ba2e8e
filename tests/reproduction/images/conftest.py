"""Fixture of images in folders."""

from tests.reproduction.images.image_folders import folders

__all__ = ["folders"]
