"""Which samples to keep, by their scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sift_trainer.selection.rules import (
    select_importance,
    select_infobatch,
    select_mixed,
    select_percentile,
    select_stratified,
    select_top_k,
    without_top,
)
from sift_trainer.selection.schedule import num_kept, num_skipped


class SelectionSettings(Protocol):
    """The ``sift_*`` fields that decide which samples are kept."""

    sift_keep_ratio: float
    sift_selector: str
    sift_beta: float
    sift_skip_top: float
    sift_random_share: float


@dataclass(frozen=True)
class KeptSamples:
    """The kept samples: indices (k,), ascending, and their weights (k,) in the loss, if any."""

    rows: Tensor
    weights: Tensor | None = None


IndicesAndWeights = Tensor | tuple[Tensor, Tensor]
"""Indices (k,), or indices and weights (k,) each."""

SelectorFunction = Callable[[Tensor, int, torch.Generator], IndicesAndWeights]
"""``(scores (B,), k, generator)`` -> what to keep."""


@dataclass(frozen=True)
class Selector:
    """A rule of selection: ``(scores (B,), k, settings, generator)`` -> what to keep, with
    weights if ``weighted``.

    Attributes:
        at_random: whether it keeps some samples whatever their scores.
    """

    choose: Callable[[Tensor, int, SelectionSettings, torch.Generator], IndicesAndWeights]
    weighted: bool = False
    at_random: bool = False


def _with_share(rule: Callable[[Tensor, int, float, torch.Generator], IndicesAndWeights]) -> Any:
    return lambda scores, k, settings, draw: rule(scores, k, settings.sift_random_share, draw)


SELECTORS: dict[str, Selector] = {
    "mixed": Selector(_with_share(select_mixed), at_random=True),
    "top_k": Selector(lambda scores, k, settings, draw: select_top_k(scores, k)),
    "percentile": Selector(
        lambda scores, k, settings, draw: select_percentile(scores, k, settings.sift_beta, draw),
        at_random=True,
    ),
    "stratified": Selector(_with_share(select_stratified), weighted=True, at_random=True),
    "importance": Selector(_with_share(select_importance), weighted=True, at_random=True),
    "infobatch": Selector(_with_share(select_infobatch), weighted=True, at_random=True),
}


def register_selector(name: str, choose: SelectorFunction, weighted: bool = False) -> None:
    """Make ``choose`` available as ``sift_selector=name``.

    Args:
        choose: gets the scores (B,) in fp32 on the model's device, the number k of samples to keep
            and a CPU generator. It returns k different indices in any order. Non-finite scores
            mark samples that should be kept last, and ``UNLABELLED`` those without a label.
        weighted: ``choose`` returns indices and the weight of each kept sample in the loss, where 1
            is as without weights.

    Raises:
        ValueError: if the name is taken.
    """
    if name in SELECTORS:
        raise ValueError(f"selector name {name!r} is taken; choose one not in {sorted(SELECTORS)}")
    SELECTORS[name] = Selector(lambda scores, k, settings, draw: choose(scores, k, draw), weighted)


def choose_rows(
    scores: Tensor, settings: SelectionSettings, generator: torch.Generator
) -> KeptSamples:
    """Choose the samples to train on by their ``scores`` (B,), with a CPU generator. A ValueError
    if a registered selector returns another number of indices or weights."""
    kept = num_kept(len(scores), settings.sift_keep_ratio)
    scores = without_top(scores, kept, num_skipped(len(scores), kept, settings.sift_skip_top))
    found = SELECTORS[settings.sift_selector].choose(scores, kept, settings, generator)
    return _checked(found, kept, settings.sift_selector, scores.device)


def _checked(found: IndicesAndWeights, k: int, name: str, device: torch.device) -> KeptSamples:
    """What the selector of that name has chosen, with its shapes checked, in ascending order."""
    rows, weights = found if isinstance(found, tuple) else (found, None)
    fits = rows.shape == (k,) and (weights is None or weights.shape == (k,))
    if not fits or (weights is not None) != SELECTORS[name].weighted:
        shapes = [tuple(each.shape) for each in (rows, weights) if each is not None]
        raise ValueError(
            f"sift_selector={name!r} returned shapes {shapes}, but {k} samples must be kept; "
            f"return {k} indices, and {k} weights if it is registered with weighted=True"
        )
    rows, order = rows.to(device).sort()
    return KeptSamples(rows, None if weights is None else weights.to(device)[order])
