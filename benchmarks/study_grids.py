"""Which runs `time_to_accuracy.py` trains, and at what learning rate.

`tuning` tries learning rates with a seed that nothing else uses; what it found is `TUNED`, and
`study` compares at these.
"""

from collections.abc import Callable, Sequence
from itertools import product

from study_methods import METHODS
from study_results import RunSpec

BUDGETS = (0.4, 0.64, 0.8, 1.0, 1.25, 1.6)
SEEDS = (0, 1, 2)
TUNING_SEED, RATES = 9, (0.5, 1.0, 2.0)
BEGIN = 0.25  # of a run without sifting: where the probe looks

TUNED: dict[tuple[str, str], float] = {}
"""Regime and method -> factor of the regime's learning rate, where it is not 1."""

COMPARED: dict[str, Sequence[str]] = {}
"""Regime -> methods beside vanilla, at the whole budget."""


def rate_of(regime: str, method: str) -> float:
    """Factor of the learning rate that a method is compared at: its own, or vanilla's."""
    return TUNED.get((regime, method), TUNED.get((regime, "vanilla"), 1.0))


def tuning(regime: str) -> list[RunSpec]:
    """Learning rates of vanilla and of two ways to sift."""
    methods = ("vanilla", "loss", "exact")
    return [
        RunSpec(regime, method, TUNING_SEED, rate=rate) for method, rate in product(methods, RATES)
    ]


def study(regime: str) -> list[RunSpec]:
    """Vanilla at all budgets and the methods at one, seed by seed."""
    runs = []
    for seed in SEEDS:
        rate = rate_of(regime, "vanilla")
        runs += [RunSpec(regime, "vanilla", seed, budget, rate) for budget in BUDGETS]
        runs += [
            RunSpec(regime, method, seed, 1.0, rate_of(regime, method))
            for method in COMPARED.get(regime, METHODS)
            if method != "vanilla"
        ]
    return runs


GRIDS: dict[str, Callable[[str], list[RunSpec]]] = {"tuning": tuning, "study": study}
