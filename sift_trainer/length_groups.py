"""Groups of like length that are as large as what is drawn, not as what is trained on."""

from collections.abc import Callable
from typing import Any

from transformers.trainer_pt_utils import LengthGroupedSampler


def grouping(sampler_of: Callable[[Any], Any], rows: int, drawn: int) -> Callable[[Any], Any]:
    """``sampler_of`` a data set, whose groups of ``rows`` rows of like length become of ``drawn``.

    A batch that lies across two groups would have the longest rows of one and the shortest of the
    other: padding, and candidates that differ in little but their length. Other samplers are left
    as they are.
    """

    def sampler(dataset: Any) -> Any:
        made = sampler_of(dataset)
        if isinstance(made, LengthGroupedSampler):
            made.batch_size = made.batch_size * drawn // rows
        return made

    return sampler
