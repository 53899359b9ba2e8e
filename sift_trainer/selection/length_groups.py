"""Candidates of like length, where the Trainer groups samples by length."""

from typing import Any

from transformers.trainer_pt_utils import LengthGroupedSampler


def grouped_as_drawn(sampler: Any, kept: int, drawn: int) -> Any:
    """A sampler whose groups of ``kept`` samples of like length become groups of ``drawn``.

    A batch across two groups would have the longest samples of one and the shortest of the other:
    padding, and candidates that differ in little but their length. Other samplers stay.
    """
    if isinstance(sampler, LengthGroupedSampler):
        sampler.batch_size = sampler.batch_size * drawn // kept
    return sampler
