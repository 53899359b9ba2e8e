"""Fixtures of the small corpus."""

from tests.reproduction.corpus.small_corpus import files, tokenizer

__all__ = ["files", "tokenizer"]
