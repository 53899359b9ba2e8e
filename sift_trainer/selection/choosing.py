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
class Choice:
    """The kept samples of a batch.

    Attributes:
        rows: ``(k,)`` their indices, ascending.
        weights: ``(k,)`` the weight of each in the loss; None for equal weights.
    """

    rows: Tensor
    weights: Tensor | None = None


Choose = Callable[[Tensor, int, torch.Generator], "Tensor | tuple[Tensor, Tensor]"]
"""``(scores (B,), k, generator)`` -> indices (k,), or indices and weights (k,) each."""


@dataclass(frozen=True)
class Selector:
    """A rule of selection.

    Attributes:
        choose: ``(scores (B,), k, generator, settings)`` -> indices, or indices and weights.
        weighted: whether it returns weights.
    """

    choose: Callable[
        [Tensor, int, torch.Generator, SelectionSettings], "Tensor | tuple[Tensor, Tensor]"
    ]
    weighted: bool = False


SELECTORS: dict[str, Selector] = {
    "top_k": Selector(lambda scores, k, generator, settings: select_top_k(scores, k)),
    "percentile": Selector(
        lambda scores, k, generator, settings: select_percentile(
            scores, k, settings.sift_beta, generator
        )
    ),
}


def register_selector(name: str, choose: Choose, weighted: bool = False) -> None:
    """Make ``choose`` available as ``sift_selector=name``.

    Args:
        choose: gets the scores (B,) in fp32 on the model's device, the number k of samples to keep
            and a CPU generator. It returns k different indices in any order. Non-finite scores
            mark samples that should be kept last, and ``UNLABELLED`` those without a label.
        weighted: ``choose`` returns indices and the weight of each kept sample in the loss. It then
            chooses all kept samples itself: ``sift_random_share`` does not apply. The weighted loss
            is the sum of weight times loss, where a sample of weight 1 counts as without weights.

    Raises:
        ValueError: if the name is taken.
    """
    if name in SELECTORS:
        raise ValueError(f"selector name {name!r} is taken; choose one not in {sorted(SELECTORS)}")
    SELECTORS[name] = Selector(
        lambda scores, k, generator, settings: choose(scores, k, generator), weighted
    )


def choose_rows(scores: Tensor, settings: SelectionSettings, generator: torch.Generator) -> Choice:
    """Choose the samples to train on by their ``scores`` (B,).

    Args:
        generator: CPU generator of this step.

    Raises:
        ValueError: if a registered selector returns another number of indices or weights.
    """
    kept = num_kept(len(scores), settings.sift_keep_ratio)
    selector = SELECTORS[settings.sift_selector]
    scores = without_top(scores, kept, num_skipped(len(scores), kept, settings.sift_skip_top))
    if selector.weighted:
        return _checked(selector.choose(scores, kept, generator, settings), kept, settings)
    by_score = kept - num_random(kept, settings.sift_random_share, generator)
    if by_score == 0:
        nothing = torch.empty(0, dtype=torch.long, device=scores.device)
        return Choice(add_random(scores, nothing, kept, generator))
    chosen = _checked(selector.choose(scores, by_score, generator, settings), by_score, settings)
    if by_score == kept:
        return chosen
    return Choice(add_random(scores, chosen.rows, kept, generator))


def _checked(
    found: "Tensor | tuple[Tensor, Tensor]", k: int, settings: SelectionSettings
) -> Choice:
    """The result of a selector with its shapes checked, in ascending order of index."""
    rows, weights = found if isinstance(found, tuple) else (found, None)
    if rows.shape != (k,) or (weights is not None and weights.shape != (k,)):
        shapes = [tuple(each.shape) for each in (rows, weights) if each is not None]
        raise ValueError(
            f"sift_selector={settings.sift_selector!r} returned shapes {shapes}, but {k} samples "
            f"must be kept; return {k} indices, and {k} weights if it is weighted"
        )
    rows, order = rows.sort()
    return Choice(rows, None if weights is None else weights[order])


def is_nonfinite(scores: Tensor) -> Tensor:
    """Scores (B,) that must not win: NaN and both infinities."""
    return ~torch.isfinite(scores)


def without_top(scores: Tensor, k: int, skip: int) -> Tensor:
    """Scores (B,) in which the ``skip`` largest are ``UNLABELLED``, so that they rank last.

    Only finite scores of labelled samples are replaced, and at least k of these remain.
    """
    if skip == 0:
        return scores
    ranked = _finite_or_last(scores)
    skipped = ((ranked > UNLABELLED).sum() - k).clamp(0, skip)
    place = ranked.sort(descending=True, stable=True).indices.argsort()
    return scores.masked_fill(place < skipped, UNLABELLED)


def select_top_k(scores: Tensor, k: int) -> Tensor:
    """Indices (k,) of the k largest scores (B,), in ascending order of index.

    Non-finite scores of either sign rank below all others. Among equal scores the first samples
    win, so a batch of non-finite scores keeps its first k samples. (`torch.topk` ranks NaN first.)

    Raises:
        ValueError: if k is not in 1..B.
    """
    _check_k(scores, k)
    order = _finite_or_last(scores).sort(descending=True, stable=True).indices
    return order[:k].sort().values


def select_percentile(scores: Tensor, k: int, beta: float, generator: torch.Generator) -> Tensor:
    """Indices (k,) drawn without replacement with weights percentile^beta, in ascending order.

    The percentile of a score (B,) is the share of the candidates' scores that are not larger.
    Selective-Backprop (Jiang et al., 2019) takes percentiles of recent losses and decides about
    each sample separately. ``beta`` 0 draws uniformly; a large one gives nearly the choice of
    `select_top_k`. Unlabelled samples and non-finite scores are taken only after all others.

    Args:
        generator: CPU generator; B numbers are drawn for any scores.

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
    """Indices (k,) of the ``chosen`` samples and of others, drawn uniformly from the rest without
    replacement, in ascending order.

    Unlabelled samples and non-finite scores are taken only after all others.

    Args:
        chosen: at most k indices.
        generator: CPU generator; B numbers are drawn for any scores (B,).

    Raises:
        ValueError: if k is not in 1..B.
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
