"""Which samples to keep, by their scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sift_trainer.scoring.criteria import UNLABELLED
from sift_trainer.selection.schedule import num_kept, num_random, num_skipped

MAX_BETA = 1e6
"""With a larger beta `select_percentile` equals `select_top_k`, and numbers overflow in fp32."""


class SelectionSettings(Protocol):
    """The ``sift_*`` fields that decide which samples are kept."""

    sift_keep_ratio: float
    sift_selector: str
    sift_beta: float
    sift_skip_top: float
    sift_random_share: float


@dataclass(frozen=True)
class Chosen:
    """The kept samples: indices (k,), ascending, and their weights (k,) in the loss, if any."""

    rows: Tensor
    weights: Tensor | None = None


Choose = Callable[[Tensor, int, torch.Generator], "Tensor | tuple[Tensor, Tensor]"]
"""``(scores (B,), k, generator)`` -> indices (k,), or indices and weights (k,) each."""


@dataclass(frozen=True)
class Selector:
    """A rule of selection: it makes `Choose` from the settings, with weights if ``weighted``."""

    choosing_by: Callable[[SelectionSettings], Choose]
    weighted: bool = False


SELECTORS: dict[str, Selector] = {
    "top_k": Selector(lambda settings: lambda scores, k, _: select_top_k(scores, k)),
    "percentile": Selector(
        lambda settings: (
            lambda scores, k, generator: select_percentile(scores, k, settings.sift_beta, generator)
        )
    ),
}


def register_selector(name: str, choose: Choose, weighted: bool = False) -> None:
    """Make ``choose`` available as ``sift_selector=name``.

    Args:
        choose: gets the scores (B,) in fp32 on the model's device, the number k of samples to keep
            and a CPU generator. It returns k different indices in any order. Non-finite scores
            mark samples that should be kept last, and ``UNLABELLED`` those without a label.
        weighted: ``choose`` returns indices and the weight of each kept sample in the loss, where 1
            is as without weights. ``sift_random_share`` does not apply.

    Raises:
        ValueError: if the name is taken.
    """
    if name in SELECTORS:
        raise ValueError(f"selector name {name!r} is taken; choose one not in {sorted(SELECTORS)}")
    SELECTORS[name] = Selector(lambda settings: choose, weighted)


def choose_rows(scores: Tensor, settings: SelectionSettings, generator: torch.Generator) -> Chosen:
    """Choose the samples to train on by their ``scores`` (B,), with a CPU generator. A ValueError
    if a registered selector returns another number of indices or weights."""
    kept = num_kept(len(scores), settings.sift_keep_ratio)
    selector = SELECTORS[settings.sift_selector]
    scores = without_top(scores, kept, num_skipped(len(scores), kept, settings.sift_skip_top))
    random = 0 if selector.weighted else num_random(kept, settings.sift_random_share, generator)
    chosen = Chosen(torch.empty(0, dtype=torch.long, device=scores.device))
    if by_score := kept - random:
        found = selector.choosing_by(settings)(scores, by_score, generator)
        chosen = _checked(found, by_score, settings.sift_selector, scores.device)
    return chosen if random == 0 else Chosen(add_random(scores, chosen.rows, kept, generator))


def _checked(
    found: "Tensor | tuple[Tensor, Tensor]", k: int, name: str, device: torch.device
) -> Chosen:
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
    return Chosen(rows, None if weights is None else weights.to(device)[order])


def is_nonfinite(scores: Tensor) -> Tensor:
    """Scores (B,) that must not win: NaN and both infinities."""
    return ~torch.isfinite(scores)


def without_top(scores: Tensor, k: int, skip: int) -> Tensor:
    """Scores (B,) in which the ``skip`` largest are ``UNLABELLED``, so that they rank last. Only
    finite scores of labelled samples are replaced, and at least k of these remain."""
    if skip == 0:
        return scores
    ranked = _finite_or_last(scores)
    skipped = ((ranked > UNLABELLED).sum() - k).clamp(0, skip)
    place = ranked.sort(descending=True, stable=True).indices.argsort()
    return scores.masked_fill(place < skipped, UNLABELLED)


def select_top_k(scores: Tensor, k: int) -> Tensor:
    """Indices (k,) of the k largest scores (B,), ascending; among equal scores the first win.
    Non-finite scores rank below all others (`torch.topk` ranks NaN first).

    Raises:
        ValueError: if k is not in 1..B.
    """
    _check_k(scores, k)
    order = _finite_or_last(scores).sort(descending=True, stable=True).indices
    return order[:k].sort().values


def select_percentile(scores: Tensor, k: int, beta: float, generator: torch.Generator) -> Tensor:
    """Indices (k,) drawn without replacement with weights percentile^beta, ascending.

    The percentile of a score (B,) is the share of the candidates' scores that are not larger.
    (Selective-Backprop, Jiang et al., 2019, takes percentiles of recent losses.) ``beta`` 0 draws
    uniformly; a large one nearly as `select_top_k`. Unlabelled samples and non-finite scores are
    taken only after all others. B numbers are drawn from the CPU ``generator`` for any scores.

    Raises:
        ValueError: if k is not in 1..B, or beta not in [0, 1e6].
    """
    if not 0 <= beta <= MAX_BETA:
        raise ValueError(f"beta={beta} must be in [0, {MAX_BETA:g}], such as 1.0")
    _check_k(scores, k)
    ranked = _finite_or_last(scores)
    no_larger = torch.searchsorted(ranked.sort().values, ranked, right=True)
    percentile = (no_larger - (ranked <= UNLABELLED).sum()) / (ranked > UNLABELLED).sum()
    # Descending log weight + Gumbel noise is the order of draws one after the other (Efraimidis
    # and Spirakis, 2006, in logarithms).
    uniform = torch.rand(len(scores), generator=generator, dtype=torch.float64)
    noise = -(-uniform.clamp(min=torch.finfo(torch.float64).tiny).log()).log()
    # The copy must not block: the host would wait for the whole scoring pass.
    keys = beta * percentile.log() + noise.float().to(scores.device, non_blocking=True)
    return select_top_k(torch.where(ranked > UNLABELLED, keys, ranked), k)


def add_random(scores: Tensor, chosen: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Indices (k,) of the ``chosen`` samples, at most k, and of others drawn uniformly, ascending.

    Unlabelled samples and non-finite scores are taken only after all others. B numbers are drawn
    from the CPU ``generator`` for any scores (B,). A ValueError if k is not in 1..B.
    """
    ranked = _finite_or_last(scores)
    uniform = torch.rand(len(scores), generator=generator).to(scores.device, non_blocking=True)
    keys = torch.where(ranked > UNLABELLED, uniform.to(ranked), ranked)
    return select_top_k(keys.index_fill(0, chosen, 1.0), k)  # above all of [0, 1)


def _finite_or_last(scores: Tensor) -> Tensor:
    return scores.masked_fill(is_nonfinite(scores), -torch.inf)


def _check_k(scores: Tensor, k: int) -> None:
    if not 1 <= k <= len(scores):
        raise ValueError(f"k={k} must be in 1..{len(scores)}, the number of scores")
