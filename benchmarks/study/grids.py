"""Which runs `time_to_accuracy.py` trains, and at what learning rate.

`tuning` tries learning rates with a seed that nothing else uses; what it found is `TUNED`, and
`study` compares at these.
"""

from collections.abc import Callable, Sequence
from itertools import product

from study.results import RunSpec

BUDGETS = (0.5, 0.75, 1.0, 1.5)
FOR_GPU = ("bert_mini_25_passes", "bert_small_25_passes")
"""Regimes that a CPU would take days for."""

_LONG = tuple(
    f"{name}_long"
    for name in (
        *("images_in_background", "images", "causal_copies"),
        *("authors", "authors_flipped", "authors_pretrained"),
    )
)
_WIDTHS = ("images_25_passes_narrow", "images_25_passes", "images_25_passes_wide")
_PASSES = ("causal_5_passes", "causal_25_passes", "images_few_passes", *_WIDTHS)

DEAR: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(("causal", "causal_copies"), (1.0, 1.5)),
    **dict.fromkeys(("images_in_background_plain", "images_supervised"), (1.0, 1.5)),
    "masked_128": (1.0, 1.25),
    **dict.fromkeys((*_LONG, *_PASSES, *FOR_GPU), (0.75, 1.0)),
    **dict.fromkeys(("images_in_background_long", "causal_copies_long"), (0.75, 1.0, 1.5)),
}
"""Regime -> fewer budgets, where a run takes long."""

SEEDS = (0, 1, 2)
TUNING_SEED, RATES = 9, (0.5, 1.0, 2.0)
BEGIN = 0.25  # of a run without sifting: where the probe looks

FURTHER: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(("images_in_background", "images"), (0.25,)),
    "authors_pretrained": (4.0,),
}
"""Regime -> rates beyond these, where the lowest or the highest was the best."""

TUNED: dict[str, tuple[float, float]] = {
    "causal": (0.5, 0.5),
    "causal_copies": (0.5, 0.5),
    "authors": (0.5, 2.0),
    "authors_in_background": (0.5, 1.0),
    "authors_pretrained": (1.0, 2.0),
    "authors_pretrained_flipped": (1.0, 2.0),
    "images": (0.5, 0.25),
    "images_supervised": (0.5, 0.25),
    "images_in_background": (0.25, 0.5),
    "images_in_background_plain": (0.25, 0.5),
    "images_in_background_even": (0.25, 0.5),
    "images_in_background_long": (0.25, 0.5),
    "causal_copies_long": (0.5, 0.5),
    "causal_5_passes": (0.5, 0.5),
    "causal_25_passes": (0.5, 0.5),
    "images_long_tail_supervised": (0.5, 1.0),
}
"""Regime -> factors of its learning rate, of vanilla and of sifting, where they are not 1.

Not the best of the tuning are those of `causal`, where sifting is .0009 better at 1 and a compared
seed falls to .0998 at 1. `masked_128` had no tuning: 1 is the highest of 1, 1.4 and 2 at which
every seed leaves the plateau of word frequencies.
"""

USUAL: dict[str, str] = {"causal": "loss_quarter", "causal_copies": "loss_quarter"}
"""Regime -> the way to sift whose learning rate is tuned, where it is not ``loss``."""

WIDE = ("loss", "random", "entropy", "exact", "loss_keep_25", "loss_early")
GATED = ("loss", "loss_gate_evaluation")

COMPARED: dict[str, Sequence[str]] = {
    "masked": (),
    "masked_128": ("entropy_quarter_early", "entropy_quarter_early_mixed"),
    **dict.fromkeys(FOR_GPU, ("loss", "entropy", "loss_half")),
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
    "images_long_tail_supervised": (*WIDE, "loss_mixed"),
}
"""Regime -> methods beside vanilla, at the whole budget."""


def rate_of(regime: str, method: str) -> float:
    """Factor of the learning rate that a method is compared at. Random rows have vanilla's."""
    return TUNED.get(regime, (1.0, 1.0))[method not in ("vanilla", "random")]


def tuning(regime: str) -> list[RunSpec]:
    """Learning rates of vanilla and of the usual way to sift."""
    methods = ("vanilla", USUAL.get(regime, "loss"))
    rates = (*RATES, *FURTHER.get(regime, ()))
    return [
        RunSpec(regime, method, TUNING_SEED, rate=rate) for method, rate in product(methods, rates)
    ]


def study(regime: str) -> list[RunSpec]:
    """Vanilla at all budgets and the methods at one, seed by seed."""
    runs = []
    for seed in SEEDS:
        rate = rate_of(regime, "vanilla")
        budgets = DEAR.get(regime, BUDGETS) if COMPARED[regime] else (1.0,)
        runs += [RunSpec(regime, "vanilla", seed, budget, rate) for budget in budgets]
        runs += [
            RunSpec(regime, method, seed, 1.0, rate_of(regime, method))
            for method in COMPARED[regime]
        ]
    return runs


_SCHEDULE = ("start_2", "start_50", "start_75", "cooldown_0", "cooldown_25", "interval_2")
_SHARE = ("keep_75", "keep_25", "soft", "mixed")

AXES: dict[str, tuple[str, Sequence[str]]] = {
    "causal": ("loss_quarter", ("soft", "mixed", "excess", "over_exit_zero")),
    "causal_25_passes": ("loss_quarter", ("mixed",)),
    "causal_copies": (
        "loss_quarter",
        (*_SCHEDULE, *_SHARE, "exit_2", "exit_3", "exact", "excess", "over_exit_zero"),
    ),
    "authors": ("loss", ("mixed",)),
    "authors_flipped": ("loss", ("start_50", "keep_75", "soft", "mixed", "over_last_seen")),
    "authors_pretrained": ("loss", ("mixed",)),
    "authors_pretrained_flipped": ("loss", ("mixed",)),
    "images": ("loss", (*_SCHEDULE, *_SHARE)),
    "images_25_passes": ("loss", ("mixed",)),
    "images_in_background": ("loss", (*_SCHEDULE, *_SHARE)),
    "images_in_background_plain": ("loss", ("mixed",)),
}
"""Regime -> a way to sift, and what is changed of it, one at a time, beside the methods above."""

AXES_SEEDS = (0, 1)


def changed_methods(regime: str) -> list[str]:
    """The methods of a regime that change one thing of its usual way to sift."""
    base, changes = AXES.get(regime, ("", ()))
    return [f"{base}_{change}" for change in changes]


def axes(regime: str) -> list[RunSpec]:
    """The changes of a usual way to sift, at the whole budget."""
    return [
        RunSpec(regime, method, seed, 1.0, rate_of(regime, method))
        for seed in AXES_SEEDS
        for method in changed_methods(regime)
    ]


GRIDS: dict[str, Callable[[str], list[RunSpec]]] = {
    "tuning": tuning,
    "study": study,
    "axes": axes,
}
