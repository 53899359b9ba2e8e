"""One pass over the logits, with no second tensor of their size: in chunks, or compiled."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor
from transformers.utils import logging

logger = logging.get_logger(__name__)

Values = Callable[[Tensor, Tensor], Tensor]
"""``(logits (N, C), targets (N,)) -> values (N,)``, larger is harder. Each value depends on its
own row and target only. Predictions without a label have the target 0; their value is not used."""

CHUNK = 2**17
"""Logits that a criterion gets at a time on a CPU: half a megabyte in fp32, which fits a cache."""

UNCOMPILED_CHUNK = 2**24
"""The same on an accelerator without a compiler: large enough to fill it."""


def values_of(
    values: Values, logits: Tensor, targets: Tensor, rows: Tensor | None = None
) -> Tensor:
    """Apply ``values`` to logits (N, C) and targets (N,) -> (N,); or to the ``rows`` (N,) of logits
    (M, C)."""
    if logits.device.type == "cuda" and _has_triton() and values not in _UNCOMPILED:
        try:
            return _compiled(values)(logits, targets, rows)
        except Exception as error:  # such as a missing C compiler
            logger.warning(f"a criterion is not compiled: {type(error).__name__}: {error}")
            _UNCOMPILED.add(values)
    at_once = CHUNK if logits.device.type == "cpu" else UNCOMPILED_CHUNK
    size = max(1, at_once // logits.shape[-1])
    parts = torch.split(logits if rows is None else rows, size)
    return torch.cat(
        [
            values(part if rows is None else logits[part], some)
            for part, some in zip(parts, torch.split(targets, size), strict=True)
        ]
    )


_UNCOMPILED: set[Values] = set()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


@cache
def _compiled(values: Values) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    def of_rows(logits: Tensor, targets: Tensor, rows: Tensor | None) -> Tensor:
        return values(logits if rows is None else logits[rows], targets)

    compiled: Callable[[Tensor, Tensor, Tensor | None], Tensor] = torch.compile(of_rows)
    return compiled
