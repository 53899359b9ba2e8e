"""From figures to one sentence: sift, and by what, or do not sift."""

from collections.abc import Sequence

from sift_trainer.probe.measurements import Estimate
from sift_trainer.probe.results import Descent, Figures

_ENOUGH = 20  # batches for a bootstrap


def break_even(scoring_share: float) -> float:
    """Share of its steps that sifting must save to pay for scoring: s / (1 + s).

    A sifted step takes 1 + s of a plain one, s being scoring over forward and backward; as fast is
    who needs 1 / (1 + s) of the steps.
    """
    return scoring_share / (1 + scoring_share)


def recommend(figures: Sequence[Figures], gradient_batches: int) -> str:
    """One sentence with its reason.

    A choice is recommended if per second, scoring included, its rows descend faster than random
    ones, at 95% confidence, both as they are and with updates of equal length: that large losses
    have large gradients is no gain by itself. Descents along AdamW's updates decide where there are
    any. Of several choices the one whose lower end is highest is named. Intervals from fewer than
    20 batches are too narrow to recommend sifting by.
    """
    found = [(each, descent) for each in figures if (descent := _decisive(each)) is not None]
    if not found:
        return (
            "Do not sift by these figures alone: no gradients were compared, and what rows are "
            "worth cannot be told from scores."
        )
    measured = [
        (each, descent.ratio, descent.ratio_at_equal_length)
        for each, descent in found
        if descent.ratio is not None and descent.ratio_at_equal_length is not None
    ]
    if not measured:
        return (
            "Do not sift yet: random rows descend by nothing measurable here, so nothing can be "
            "held against them; take more gradient batches, or other weights."
        )
    best, ratio, equal = max(measured, key=lambda each: min(each[1].low, each[2].low))
    cost = (
        f"scoring takes {_percent(best.scoring_share.value)} of forward and backward and is paid "
        f"for by {_percent(best.break_even)} fewer steps"
    )
    told = (
        f"per second its rows descend {_interval(ratio)} times as fast as random ones, and "
        f"{_interval(equal)} times with updates of equal length"
    )
    if min(ratio.low, equal.low) > 1 and gradient_batches < _ENOUGH:
        return (
            f"Do not sift on the word of {gradient_batches} gradient batches, take {_ENOUGH} or "
            f"more: by {best.choice}, {told}; {cost}."
        )
    if min(ratio.low, equal.low) > 1:
        return f"Sift by {best.choice}: {told}; {cost}."
    if all(max(one.high, other.high) < 1 for _, one, other in measured):
        return f"Do not sift: even by {best.choice}, {told}; {cost}."
    if ratio.low > 1:
        return (
            f"Do not sift, or lower the learning rate with it: by {best.choice}, {told}, so that "
            f"it gains by longer updates and not measurably by better ones; {cost}."
        )
    return (
        f"Do not sift unless more batches say otherwise: by {best.choice}, the best choice, "
        f"{told}, which is not measurably more; {cost}."
    )


def _decisive(figures: Figures) -> Descent | None:
    return figures.adam_descent or figures.descent


def _interval(found: Estimate) -> str:
    return f"{found.value:.2f} ({found.low:.2f} - {found.high:.2f})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
