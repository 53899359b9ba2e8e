"""Candidates of similar length, if the Trainer groups samples by length."""

from typing import Any

from transformers.trainer_pt_utils import LengthGroupedSampler


def grouped_as_drawn(sampler: Any, kept: int, drawn: int) -> Any:
    """Change groups of ``kept`` samples of similar length into groups of ``drawn``: a batch across
    two groups would mix long and short samples. Other samplers are not changed."""
    if isinstance(sampler, LengthGroupedSampler):
        sampler.batch_size = sampler.batch_size * drawn // kept
    return sampler
