"""From figures to one sentence: sift, and by which choice, or do not sift."""

from collections.abc import Sequence

from sift_trainer.probe.results import Estimate, Figures

_ENOUGH = 20  # batches for a bootstrap


def break_even(scoring_share: float) -> float:
    """Share of its steps that sifting must save to pay for scoring, as a sifted step takes
    1 + s of a plain one."""
    return scoring_share / (1 + scoring_share)


def recommend(
    figures: Sequence[Figures], gradient_batches: int, towards_evaluation: bool = False
) -> str:
    """One sentence with its reason.

    A choice is recommended if its rows descend faster than random ones per second, scoring
    included, at 95% confidence. This must hold for updates as they are and for updates of equal
    length, because large losses have large gradients. A criterion is not recommended if the dropped
    rows of one of its choices ascend, except towards evaluation rows: such a gain soon ends.
    """
    found = {each: ends for each in figures if (ends := _ratios(each)) is not None}
    if not found:
        return (
            "Do not sift yet: no gradients were compared or random rows bring nothing measurable "
            "here, so there is no ratio to them; take more gradient batches, or other weights."
        )
    low = {each: min(end.low for end in ends) for each, ends in found.items()}
    opposed = {
        each: dropped
        for each in found
        if (dropped := _opposing_rows(each)) is not None and not towards_evaluation
    }
    excluded = {each.choice.criterion for each in opposed}
    candidates = [each for each in found if each.choice.criterion not in excluded]
    best = max(candidates or found, key=lambda each: low[each])
    if low[best] > 1 and candidates and gradient_batches >= _ENOUGH:
        return f"Sift by {best.choice}, to first order and at these weights: {_text(best)}."
    if any(low[each] > 1 for each in found if each.choice.criterion in excluded):
        first = max(opposed, key=lambda each: low[each])
        return (
            f"Do not sift by {first.choice.criterion} without a short trial run: by "
            f"{first.choice}, {_text(first)}, but the dropped rows' updates bring "
            f"{_interval(opposed[first])} times what random ones do, so that the two pull against "
            "each other and the gain may not outlast the first steps."
        )
    if low[best] > 1:
        return (
            f"Do not sift on the word of {gradient_batches} gradient batches, take {_ENOUGH} or "
            f"more: by {best.choice}, {_text(best)}."
        )
    return f"Do not sift: even by {best.choice}, {_text(best)}."


def _ratios(figures: Figures) -> tuple[Estimate, Estimate] | None:
    descent = figures.descent
    if descent is None or descent.ratio is None or descent.ratio_at_equal_length is None:
        return None
    return descent.ratio, descent.ratio_at_equal_length


def _opposing_rows(figures: Figures) -> Estimate | None:
    dropped = figures.descent.dropped_ratio if figures.descent is not None else None
    return dropped if dropped is not None and dropped.high < 0 else None


def _text(figures: Figures) -> str:
    ratio, equal = _ratios(figures) or (None, None)
    return (
        f"per second its rows descend {_interval(ratio)} times as fast as random ones, "
        f"and {_interval(equal)} times with updates of equal length, where scoring takes "
        f"{100 * figures.scoring_share.value:.1f}% of forward and backward and is paid for by "
        f"{100 * figures.break_even:.1f}% fewer steps"
    )


def _interval(found: Estimate | None) -> str:
    return "-" if found is None else f"{found.value:.2f} ({found.low:.2f} - {found.high:.2f})"
