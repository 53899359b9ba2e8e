"""From figures to one sentence: sift, and by what, or do not sift."""

from collections.abc import Sequence
from dataclasses import dataclass

from sift_trainer.probe.measurements import Estimate
from sift_trainer.probe.results import Choice, Descent, Figures

_ENOUGH = 20  # batches for a bootstrap


def break_even(scoring_share: float) -> float:
    """Share of its steps that sifting must save to pay for scoring: s / (1 + s).

    A sifted step takes 1 + s of a plain one, s being scoring over forward and backward; as fast is
    who needs 1 / (1 + s) of the steps.
    """
    return scoring_share / (1 + scoring_share)


def recommend(
    figures: Sequence[Figures], gradient_batches: int, towards_evaluation: bool = False
) -> str:
    """One sentence with its reason.

    A choice is recommended if per second, scoring included, its rows descend faster than random
    ones, at 95% confidence, both as they are and with updates of equal length: that large losses
    have large gradients is no gain by itself. Descents along AdamW's updates decide where there are
    any. Of several choices the one whose lower end is highest is named.

    A criterion is not recommended where by any of its choices the dropped rows pull against the
    kept ones: to first order that looks like the largest of gains, and it ends when the level that
    they disagree about has moved. Choices that approximate the criterion have some of it. Towards
    the evaluation set, which training rows need not be distributed as, it is a reason to sift
    instead, and random rows may bring nothing. Intervals from fewer than 20 batches are too narrow
    to recommend sifting by.
    """
    found = [(each, descent) for each in figures if (descent := _decisive(each)) is not None]
    if not found:
        return (
            "Do not sift by these figures alone: no gradients were compared, and what rows are "
            "worth cannot be told from scores."
        )
    measured = [
        _Judged(each, descent.ratio, descent.ratio_at_equal_length, descent.dropped_ratio)
        for each, descent in found
        if descent.ratio is not None and descent.ratio_at_equal_length is not None
    ]
    if towards_evaluation and gradient_batches >= _ENOUGH:
        clear = [(each, descent) for each, descent in found if _only_kept_bring(descent)]
        if clear and not any(each.low > 1 for each in measured):
            chosen, told = max(clear, key=lambda pair: pair[1].kept.low)
            return (
                f"Sift by {chosen.choice}, to first order and at these weights: per second the "
                f"evaluation rows' loss falls by {_signed(told.kept)} by its rows, and by "
                f"{_signed(told.random)} by random ones, which is less and nothing measurable."
            )
    if not measured:
        return (
            "Do not sift yet: random rows descend by nothing measurable here, so nothing can be "
            "held against them; take more gradient batches, or other weights."
        )
    against = [each for each in measured if each.pulls_apart and not towards_evaluation]
    contested = {each.criterion for each in against}
    agreed = [each for each in measured if each.criterion not in contested]
    best = max(agreed or measured, key=lambda each: each.low)
    if best.low > 1 and agreed and gradient_batches >= _ENOUGH:
        return f"Sift by {best.choice}, to first order and at these weights: {best.told()}."
    if against and (first := max(against, key=lambda each: each.low)).low > 1:
        assert first.dropped is not None
        return (
            f"Do not sift by {first.criterion} without a short trial run: by {first.choice}, "
            f"{first.told()}, but the dropped rows' updates bring {_interval(first.dropped)} times "
            "what random ones do, so that the two pull against each other and the gain may not "
            "outlast the first steps."
        )
    if best.low > 1:
        return (
            f"Do not sift on the word of {gradient_batches} gradient batches, take {_ENOUGH} or "
            f"more: by {best.choice}, {best.told()}."
        )
    if all(max(each.ratio.high, each.equal.high) < 1 for each in measured):
        return f"Do not sift: even by {best.choice}, {best.told()}."
    if best.ratio.low > 1:
        return (
            f"Do not sift, or lower the learning rate with it: by {best.choice}, {best.told()}, so "
            "that it gains by longer updates and not measurably by better ones."
        )
    return (
        f"Do not sift unless more batches say otherwise: by {best.choice}, the best choice, "
        f"{best.told()}, which is not measurably more."
    )


@dataclass(frozen=True)
class _Judged:
    """A choice whose rows can be held against random ones."""

    figures: Figures
    ratio: Estimate
    equal: Estimate
    dropped: Estimate | None

    @property
    def choice(self) -> Choice:
        return self.figures.choice

    @property
    def criterion(self) -> str:
        return self.choice.criterion

    @property
    def low(self) -> float:
        """What is sure of the gain."""
        return min(self.ratio.low, self.equal.low)

    @property
    def pulls_apart(self) -> bool:
        return self.dropped is not None and self.dropped.high < 0

    def told(self) -> str:
        share, fewer = self.figures.scoring_share.value, self.figures.break_even
        return (
            f"per second its rows descend {_interval(self.ratio)} times as fast as random ones, "
            f"and {_interval(self.equal)} times with updates of equal length, where scoring takes "
            f"{_percent(share)} of forward and backward and is paid for by {_percent(fewer)} fewer "
            "steps"
        )


def _decisive(figures: Figures) -> Descent | None:
    return figures.adam_descent or figures.descent


def _only_kept_bring(descent: Descent) -> bool:
    """Whether kept rows descend for sure, and random ones not: a ratio would say nothing."""
    return descent.ratio is None and descent.kept.low > max(descent.random.high, 0.0)


def _signed(found: Estimate) -> str:
    return f"{found.value:.3g} ({found.low:.3g} - {found.high:.3g})"


def _interval(found: Estimate) -> str:
    return f"{found.value:.2f} ({found.low:.2f} - {found.high:.2f})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
