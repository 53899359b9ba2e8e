"""From figures to one sentence: sift, and by which choice, or do not sift."""

from collections.abc import Sequence
from dataclasses import dataclass

from sift_trainer.probe.measurements import Estimate
from sift_trainer.probe.results import Choice, Descent, Figures

_ENOUGH = 20  # batches for a bootstrap


def break_even(scoring_share: float) -> float:
    """Share of its steps that sifting must save to pay for scoring: s / (1 + s).

    A sifted step takes 1 + s of a plain one, with s the share of scoring in forward and backward.
    """
    return scoring_share / (1 + scoring_share)


def recommend(
    figures: Sequence[Figures], gradient_batches: int, towards_evaluation: bool = False
) -> str:
    """One sentence with its reason.

    A choice is recommended if its rows descend faster than random ones per second, scoring
    included, at 95% confidence. This must hold for updates as they are and for updates of equal
    length, because large losses have large gradients. AdamW's descents decide where there are any.
    Of several choices, the one with the highest lower end is named.

    A criterion is not recommended if the dropped rows of one of its choices ascend: to first order
    this looks like the largest gain, but it ends when the level that kept and dropped rows disagree
    about has moved. If descent is of the loss of evaluation rows, it is a reason to sift instead.
    Then kept rows that descend are also enough if random rows bring nothing. Fewer than 20 batches
    give intervals that are too narrow.

    Args:
        figures: of all choices.
        gradient_batches: number of batches with gradients.
        towards_evaluation: whether descent is of the loss of evaluation rows.
    """
    enough = gradient_batches >= _ENOUGH
    found = [
        (each.choice, descent)
        for each in figures
        if (descent := each.adam_descent or each.descent) is not None
    ]
    if not found:
        return (
            "Do not sift by these figures alone: no gradients were compared, and scores do not "
            "show what rows are worth."
        )
    gains = [gain for each in figures if (gain := _gain(each)) is not None]
    if towards_evaluation and enough and not any(each.low > 1 for each in gains):
        clear = [pair for pair in found if _only_kept_descend(pair[1])]
        if clear:
            choice, descent = max(clear, key=lambda pair: pair[1].kept.low)
            return (
                f"Sift by {choice}, to first order and at these weights: per second the "
                f"evaluation rows' loss falls by {_signed(descent.kept)} by its rows, and by "
                f"{_signed(descent.random)} by random ones, which is less and nothing measurable."
            )
    if not gains:
        return (
            "Do not sift yet: random rows bring nothing measurable here, so there is no ratio to "
            "them; take more gradient batches, or other weights."
        )
    opposed = [each for each in gains if each.opposed and not towards_evaluation]
    excluded = {each.choice.criterion for each in opposed}
    candidates = [each for each in gains if each.choice.criterion not in excluded]
    best = max(candidates or gains, key=lambda each: each.low)
    if best.low > 1 and candidates and enough:
        return f"Sift by {best.choice}, to first order and at these weights: {best.text}."
    if opposed and (first := max(opposed, key=lambda each: each.low)).low > 1:
        assert first.dropped is not None
        return (
            f"Do not sift by {first.choice.criterion} without a short trial run: by "
            f"{first.choice}, {first.text}, but the dropped rows' updates bring "
            f"{_interval(first.dropped)} times what random ones do, so that the two pull against "
            "each other and the gain may not outlast the first steps."
        )
    if best.low > 1:
        return (
            f"Do not sift on the word of {gradient_batches} gradient batches, take {_ENOUGH} or "
            f"more: by {best.choice}, {best.text}."
        )
    if all(max(each.ratio.high, each.equal.high) < 1 for each in gains):
        return f"Do not sift: even by {best.choice}, {best.text}."
    if best.ratio.low > 1:
        return (
            f"Do not sift, or lower the learning rate with it: by {best.choice}, {best.text}, so "
            "that it gains by longer updates and not measurably by better ones."
        )
    return (
        f"Do not sift unless more batches say otherwise: by {best.choice}, the best choice, "
        f"{best.text}, which is not measurably more."
    )


@dataclass(frozen=True)
class _Gain:
    """What a choice gains over random rows.

    Attributes:
        ratio: descent per second over that of random rows.
        equal: the same for updates of equal length.
        dropped: descent of the dropped rows over that of random rows.
        text: for a sentence.
    """

    choice: Choice
    ratio: Estimate
    equal: Estimate
    dropped: Estimate | None
    text: str

    @property
    def low(self) -> float:
        return min(self.ratio.low, self.equal.low)

    @property
    def opposed(self) -> bool:
        return self.dropped is not None and self.dropped.high < 0


def _gain(figures: Figures) -> _Gain | None:
    descent = figures.adam_descent or figures.descent
    if descent is None or descent.ratio is None or descent.ratio_at_equal_length is None:
        return None
    ratio, equal = descent.ratio, descent.ratio_at_equal_length
    text = (
        f"per second its rows descend {_interval(ratio)} times as fast as random ones, "
        f"and {_interval(equal)} times with updates of equal length, where scoring takes "
        f"{100 * figures.scoring_share.value:.1f}% of forward and backward and is paid for by "
        f"{100 * figures.break_even:.1f}% fewer steps"
    )
    return _Gain(figures.choice, ratio, equal, descent.dropped_ratio, text)


def _only_kept_descend(descent: Descent) -> bool:
    """Whether kept rows certainly descend and random rows do not, so that there is no ratio."""
    return descent.ratio is None and descent.kept.low > max(descent.random.high, 0.0)


def _signed(found: Estimate) -> str:
    return f"{found.value:.3g} ({found.low:.3g} - {found.high:.3g})"


def _interval(found: Estimate) -> str:
    return f"{found.value:.2f} ({found.low:.2f} - {found.high:.2f})"
