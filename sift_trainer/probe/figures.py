"""From what was collected, batch by batch, to the figures of one choice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from sift_trainer.measuring import theory
from sift_trainer.measuring.choices import comparable, overlap, spearman
from sift_trainer.probe.measurements import Estimate, mean_over_batches, ratio_of_means
from sift_trainer.probe.recommend import break_even
from sift_trainer.probe.results import Choice, Descent, Figures, GradientNorms
from sift_trainer.probe.turns import Spread

T = TypeVar("T")
Notes = dict[str, str]
"""Why a figure is not there, by its name."""


@dataclass
class Updates:
    """Of updates by some rows, one number for each gradient batch.

    Attributes:
        descents: inner products of the held-out gradient with the update.
        lengths: Euclidean norms of the update.
    """

    descents: list[float] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)

    def at_equal_length(self) -> list[float]:
        return [
            descent / length if length > 0 else 0.0
            for descent, length in zip(self.descents, self.lengths, strict=True)
        ]


@dataclass
class Collected:
    """Of one choice, or of the random rows: what each batch brought.

    Attributes:
        scores: (B,) of each batch.
        kept: row numbers (k,) of the largest scores of each batch.
        plain: updates along the gradient.
        adam: updates along AdamW's preconditioned gradient; empty without second moments.
    """

    scores: list[Tensor] = field(default_factory=list)
    kept: list[Tensor] = field(default_factory=list)
    plain: Updates = field(default_factory=Updates)
    adam: Updates = field(default_factory=Updates)

    @property
    def updates(self) -> tuple[Updates, Updates]:
        return self.plain, self.adam


def figures_of(
    choice: Choice,
    found: Collected,
    exact: Collected | None,
    random: Collected,
    norms: Sequence[Tensor],
    keep_ratio: float,
    scoring_share: Spread,
    step_seconds: float,
    margins: bool,
    notes: Notes,
) -> Figures:
    """All figures of a choice.

    Args:
        exact: scores that are exact per-sample losses, of the same batches; None if there are none.
        random: what random rows brought.
        norms: norms of single rows' gradients (B,) of the first batches.
        margins: whether losses are those of single predictions by a linear head.
        notes: gets why a figure is None.
    """
    values: dict[str, Any] = {}
    if exact is not None:
        values = _beside_exact(choice, found, exact, margins, notes)
    share = scoring_share.value
    return Figures(
        choice=choice,
        scoring_share=scoring_share,
        break_even=break_even(share),
        gradient_norms=_gradient_norms(found.kept, norms),
        descent=_descent(found.plain, random.plain, keep_ratio, share, step_seconds),
        adam_descent=_descent(found.adam, random.adam, keep_ratio, share, step_seconds),
        **values,
    )


def _beside_exact(
    choice: Choice, found: Collected, exact: Collected, margins: bool, notes: Notes
) -> dict[str, Any]:
    overlaps = [overlap(*rows) for rows in zip(found.kept, exact.kept, strict=True)]
    pairs = [
        (losses[both], scores[both])
        for losses, scores in zip(exact.scores, found.scores, strict=True)
        for both in [comparable(losses, scores)]
    ]
    correlations = [spearman(*each) for each in pairs]
    losses, scores = (torch.cat(each) for each in zip(*pairs, strict=True))
    values: dict[str, Any] = {
        "overlap": mean_over_batches(overlaps),
        "spearman": mean_over_batches([each for each in correlations if each is not None]),
        "agreement": attempt(notes, "agreement", lambda: theory.pairwise_agreement(losses, scores)),
        "approximate_loss_ratio": attempt(
            notes, "rho_2,approx", lambda: theory.approximate_loss_ratio(losses, scores)
        ),
    }
    if choice.criterion != "loss":
        notes.setdefault("sigma", "an assumption on approximate losses (only criterion 'loss')")
        return values
    above = (losses > 0) & (scores > 0)
    if not bool(above.all()):
        notes["losses of 0"] = "left out where a logarithm is taken (sigma, beta)"
    noise = attempt(notes, "sigma", lambda: theory.fit_noise(losses[above], scores[above]))
    values["noise"] = noise
    limit = attempt(notes, "sigma_max", lambda: theory.sigma_max(theory.loss_ratio(losses)))
    if noise is not None and limit is not None:
        values["noise_is_small"] = noise.sigma < limit
    if margins:
        beta = attempt(
            notes,
            "beta",
            lambda: theory.beta_from_margins(
                theory.margins_from_losses(scores[above]), theory.margins_from_losses(losses[above])
            ),
        )
        values["beta"] = beta
        values["agreement_by_theorem"] = None if beta is None else theory.argmax_agreement(beta)
    return values


def attempt(notes: Notes, name: str, work: Callable[[], T]) -> T | None:
    """What ``work`` returns; None, with its message as the note, if that has no meaning."""
    try:
        return work()
    except ValueError as error:
        notes.setdefault(name, str(error))
        return None


def _descent(
    kept: Updates, random: Updates, keep_ratio: float, scoring_share: float, step_seconds: float
) -> Descent | None:
    plain = mean_over_batches(random.descents)
    chosen = mean_over_batches(kept.descents)
    if plain is None or chosen is None:
        return None
    dearer = 1 + scoring_share
    equal = ratio_of_means(kept.at_equal_length(), random.at_equal_length())
    ratio = ratio_of_means(kept.descents, random.descents)
    return Descent(
        kept=_over(chosen, step_seconds * dearer),
        random=_over(plain, step_seconds),
        ratio=None if ratio is None else _over(ratio, dearer),
        ratio_at_equal_length=None if equal is None else _over(equal, dearer),
        dropped_ratio=None if ratio is None else of_dropped(ratio, keep_ratio),
    )


def of_dropped(kept: Estimate, keep_ratio: float) -> Estimate:
    """The dropped rows' descent over random ones', from that of the kept."""
    value, high, low = (
        (1 - keep_ratio * each) / (1 - keep_ratio) for each in (kept.value, kept.low, kept.high)
    )
    return Estimate(value, low, high)


def _over(estimate: Estimate, divisor: float) -> Estimate:
    return Estimate(estimate.value / divisor, estimate.low / divisor, estimate.high / divisor)


def _gradient_norms(kept: Sequence[Tensor], norms: Sequence[Tensor]) -> GradientNorms | None:
    means: list[tuple[float, float]] = []
    for rows, lengths in zip(kept, norms, strict=False):  # of the first batches there are norms
        chosen = torch.zeros(len(lengths), dtype=torch.bool)
        chosen[rows] = True
        finite = lengths.isfinite()  # a row without a label has none
        both = lengths[chosen & finite], lengths[~chosen & finite]
        if len(both[0]) and len(both[1]):
            means.append((float(both[0].mean()), float(both[1].mean())))
    if not means:
        return None
    above, below = ([each[side] for each in means] for side in (0, 1))
    return GradientNorms(
        sum(above) / len(means), sum(below) / len(means), ratio_of_means(above, below)
    )
