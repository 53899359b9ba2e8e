"""Fixtures of the small corpus and of the images in folders."""

from tests.data.image_folders import folders
from tests.data.small_corpus import files, tokenizer

__all__ = ["files", "folders", "tokenizer"]
