"""The sentence, for made-up figures."""

import pytest

from sift_trainer.probe.recommend import break_even, recommend
from sift_trainer.probe.results import Choice, Descent, Estimate, Figures

Ends = tuple[float, float]


def figures(
    criterion: str,
    ratio: Ends | None,
    equal: Ends | None = None,
    dropped: Ends = (0.5, 0.7),
) -> Figures:
    """Intervals of the ratios of descent, plain and at equal length, and of the dropped rows."""
    return Figures(
        choice=Choice(criterion, 1),
        scoring_share=Estimate(0.25, 0.25, 0.25),
        break_even=break_even(0.25),
        descent=None if ratio is None else descent(ratio, equal or ratio, dropped),
    )


def descent(*ratios: Ends) -> Descent:
    some = Estimate(1.0, 0.9, 1.1)
    return Descent(some, some, *(Estimate(sum(ends) / 2, *ends) for ends in ratios))


def test_sift_by_the_choice_that_gains_most_surely() -> None:
    found = recommend([figures("loss", (1.01, 1.9)), figures("entropy", (1.2, 1.4))], 50)
    assert found == (
        "Sift by entropy, exit 1, to first order and at these weights: per second its rows descend "
        "1.30 (1.20 - 1.40) times as fast as random ones, and 1.30 (1.20 - 1.40) times with "
        "updates of equal length, where scoring takes 25.0% of forward and backward and is paid "
        "for by 20.0% fewer steps."
    )


def test_rows_that_pull_against_the_others_are_no_gain() -> None:
    """Of a whole criterion: its other choices are the same with noise. Towards an evaluation set
    they are a reason to sift."""
    apart = figures("loss", (1.9, 2.3), dropped=(-0.9, -0.4))
    noisy = figures("loss", (1.5, 1.8), dropped=(-0.3, 0.2))
    less = figures("loss", (1.6, 1.9), dropped=(-0.8, -0.3))
    found = recommend([noisy, apart, less], 50)
    assert found.startswith("Do not sift by loss without a short trial run")
    assert "-0.65 (-0.90 - -0.40) times what random ones do" in found
    other = figures("entropy", (1.1, 1.2))
    assert recommend([noisy, apart, other], 50).startswith("Sift by entropy")
    assert recommend([noisy, apart], 50, towards_evaluation=True).startswith("Sift by loss")


@pytest.mark.parametrize(
    ("found", "batches", "reason"),
    [
        (figures("loss", (0.7, 0.9)), 50, "even by loss, exit 1, per second its rows descend 0.80"),
        (figures("loss", (0.8, 1.2)), 50, "even by loss"),
        (figures("loss", (1.2, 1.4), (0.9, 1.1)), 50, "even by loss"),  # only longer updates
        (figures("loss", (1.2, 1.4)), 6, "on the word of 6 gradient batches"),
        (figures("loss", None), 50, "no gradients were compared"),
    ],
)
def test_do_not_sift(found: Figures, batches: int, reason: str) -> None:
    sentence = recommend([found], batches)
    assert sentence.startswith("Do not sift")
    assert reason in sentence
    assert sentence.count(". ") == 0  # one sentence
