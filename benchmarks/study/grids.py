"""Which runs `time_to_accuracy.py` trains, and at what learning rate."""

from collections.abc import Callable, Sequence

from study.regimes import LONG
from study.results import RunSpec

SEEDS, AXES_SEEDS = (0, 1, 2), (0, 1)
TUNING_SEED = 9  # of the runs that learning rates were chosen by

BUDGETS = (0.5, 0.75, 1.0, 1.5)
_WIDTHS = ("images_25_passes_narrow", "images_25_passes", "images_25_passes_wide")
_PASSES = ("causal_5_passes", "causal_25_passes", "images_few_passes", *_WIDTHS)
FEWER_BUDGETS: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(("causal", "causal_copies"), (1.0, 1.5)),
    **dict.fromkeys(("images_in_background_plain", "images_supervised"), (1.0, 1.5)),
    "masked_128": (1.0, 1.25),
    **dict.fromkeys((*(f"{name}_long" for name in LONG), *_PASSES), (0.75, 1.0)),
    **dict.fromkeys(("images_in_background_long", "causal_copies_long"), (0.75, 1.0, 1.5)),
}
"""Regime -> vanilla's budgets, where a run takes long."""

TUNED: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("causal", "causal_5_passes", "causal_25_passes"), (0.5, 0.5)),
    **dict.fromkeys(("causal_copies", "causal_copies_long"), (0.5, 0.5)),
    "authors": (0.5, 2.0),
    "authors_in_background": (0.5, 1.0),
    **dict.fromkeys(("authors_pretrained", "authors_pretrained_flipped"), (1.0, 2.0)),
    **dict.fromkeys(("images", "images_supervised"), (0.5, 0.25)),
    **{f"images_in_background{end}": (0.25, 0.5) for end in ("", "_plain", "_even", "_long")},
    "images_long_tail_supervised": (0.5, 1.0),
}
"""Regime -> factors of its learning rate, of vanilla and of sifting, where they are not 1.

They are the best of 0.5, 1 and 2 (and one beyond) with `TUNING_SEED` for vanilla and the usual way
to sift, by the grid ``tuning`` of commit d749361. Exceptions: in `causal` sifting is .0009 better
at 1, but a compared seed falls to .0998 there. `masked_128` had no tuning: 1 is the highest of 1,
1.4 and 2 at which every seed leaves the plateau of word frequencies.
"""

GATED = ("loss", "loss_gate_evaluation")
COMPARED: dict[str, Sequence[str]] = {
    "masked": (),
    "masked_128": ("entropy_quarter_early", "entropy_quarter_early_mixed"),
    "causal": ("loss_quarter",),
    "causal_5_passes": ("loss_quarter",),
    "causal_25_passes": ("loss_quarter", "loss_quarter_exact"),
    "causal_copies": ("loss_quarter",),
    "causal_copies_long": ("loss_quarter", "loss_quarter_gate_evaluation"),
    "authors": ("loss", "exact"),
    "authors_long": GATED,
    "authors_flipped": ("loss", "entropy", "loss_skip"),
    "authors_flipped_long": GATED,
    "authors_pretrained": ("loss", "random", "exact"),
    "authors_pretrained_long": ("random", *GATED),
    "authors_pretrained_flipped": ("loss", "entropy", "loss_skip"),
    "authors_long_tail_few": ("loss", "random", "loss_mixed"),
    "authors_in_background": ("loss", "random", "entropy", "loss_keep_25", "loss_mixed"),
    "authors_in_background_even": (),
    "images": ("loss", "exact"),
    "images_long": ("random", *GATED),
    **dict.fromkeys(("images_few_passes", *_WIDTHS), ("loss", "exact")),
    "images_supervised": ("loss", "exact"),
    "images_in_background": ("loss", "random", "exact"),
    "images_in_background_long": ("loss_gate", *GATED),
    "images_in_background_plain": ("loss",),
    "images_in_background_even": (),
    "images_long_tail_supervised": (
        *("loss", "random", "entropy", "exact"),
        *("loss_keep_25", "loss_early", "loss_mixed"),
    ),
}
"""Regime -> methods in addition to vanilla, at the whole budget."""

_SCHEDULE = ("start_2", "start_50", "start_75", "cooldown_0", "cooldown_25", "interval_2")
_SHARE = ("keep_75", "keep_25", "soft", "mixed")
AXES: dict[str, tuple[str, Sequence[str]]] = {
    "causal": ("loss_quarter", ("soft", "mixed")),
    "causal_25_passes": ("loss_quarter", ("mixed",)),
    "causal_copies": ("loss_quarter", (*_SCHEDULE, *_SHARE, "exit_2", "exit_3", "exact")),
    "authors": ("loss", ("mixed",)),
    "authors_flipped": ("loss", ("start_50", "keep_75", "soft", "mixed")),
    "authors_pretrained": ("loss", ("mixed",)),
    "authors_pretrained_flipped": ("loss", ("mixed",)),
    "images": ("loss", (*_SCHEDULE, *_SHARE)),
    "images_25_passes": ("loss", ("mixed",)),
    "images_in_background": ("loss", (*_SCHEDULE, *_SHARE)),
    "images_in_background_plain": ("loss", ("mixed",)),
}
"""Regime -> a way to sift, and what is changed in it."""


def rate_of(regime: str, method: str) -> float:
    """Factor of the learning rate that a method is compared at. Random rows have vanilla's."""
    return TUNED.get(regime, (1.0, 1.0))[method not in ("vanilla", "random")]


def study(regime: str) -> list[RunSpec]:
    """Vanilla at all budgets and the methods at one, seed by seed."""
    runs = []
    for seed in SEEDS:
        rate = rate_of(regime, "vanilla")
        budgets = FEWER_BUDGETS.get(regime, BUDGETS) if COMPARED[regime] else (1.0,)
        runs += [RunSpec(regime, "vanilla", seed, budget, rate) for budget in budgets]
        runs += [
            RunSpec(regime, method, seed, 1.0, rate_of(regime, method))
            for method in COMPARED[regime]
        ]
    return runs


def axes(regime: str) -> list[RunSpec]:
    """The changes in a usual way to sift, at the whole budget."""
    base, changes = AXES.get(regime, ("", ()))
    return [
        RunSpec(regime, f"{base}_{change}", seed, 1.0, rate_of(regime, f"{base}_{change}"))
        for seed in AXES_SEEDS
        for change in changes
    ]


GRIDS: dict[str, Callable[[str], list[RunSpec]]] = {"study": study, "axes": axes}
