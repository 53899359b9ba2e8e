"""Fixtures of the small corpus."""

from tests.data.small_corpus import files, tokenizer

__all__ = ["files", "tokenizer"]
