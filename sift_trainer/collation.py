"""What a collator makes of samples: rows that can be selected from, or something else.

A trainer with a loss of its own takes its batches apart in its own way: a reward model's are the
chosen answers and below them the rejected ones, an embedding's have the texts of every column.
Nothing says so but the batch itself, so the collator is tried on two samples.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.trainer_utils import has_length

TRIED = 2
"""Samples that a collator is tried on."""


def tried_batch(data: Any, collator: Callable[[list[Any]], Any]) -> Any:
    """The batch of the first `TRIED` samples; None if it cannot be had.

    Of a stream it cannot, as what was read of it may be gone. Nor where the collator fails, as the
    Trainer takes columns away in front of it: what fails then too is told at the first batch.

    Args:
        data: the training data, or several under names, of which the first are tried.
    """
    if isinstance(data, Mapping):
        data = next(iter(data.values()), None)
    if not has_length(data) or not hasattr(data, "__getitem__") or len(data) < TRIED:
        return None
    try:
        with _random_state_kept():
            return collator([data[index] for index in range(TRIED)])
    except Exception:
        return None


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Within the context random numbers may be drawn; afterwards none was."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def rows_of_a_sample(batch: Mapping[str, Any], samples: int) -> int:
    """How many rows the collator makes of one sample, where it makes several; else 1."""
    sizes = [len(value) for value in batch.values() if isinstance(value, Tensor) and value.dim()]
    return max([size // samples for size in sizes if size % samples == 0], default=1)


def missing_field(model: nn.Module, batch: Mapping[str, Any]) -> str | None:
    """What the model's forward cannot do without and the batch has not; None if it has all."""
    needed = [
        name
        for name, parameter in signature(model.forward).parameters.items()
        if parameter.default is Parameter.empty
        and parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    ]
    return next((name for name in needed if name not in batch), None)


def with_known_fields(model: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    """``forward``, which is given those fields only that the model's own takes.

    What else is in a batch is for a loss that is not the model's.
    """
    parameters = signature(model.forward).parameters
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return forward

    def known(**fields: Any) -> Any:
        return forward(**{name: value for name, value in fields.items() if name in parameters})

    return known
