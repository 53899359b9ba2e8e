"""The figure of `time_to_accuracy.py`: what sifting gains at equal cost in each regime."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from study.grids import AXES
from study.methods import METHODS
from study.regimes import REGIMES
from study.results import Line
from study.tables import accuracies, compared_runs

PICTURE = "time_to_accuracy.png"
WAYS = {
    "vanilla": "#0072B2",
    "rows at random": "#D55E00",
    "largest exact losses": "#CC79A7",
    "largest at an early exit": "#009E73",
    "half of them, half at random": "#E69F00",
}
"""What a run does -> its colour."""


def gains(lines: Sequence[Line]) -> dict[str, dict[str, list[float]]]:
    """Regime -> way -> the percent that each run's accuracy at vanilla's cost is above vanilla's
    mean. Regimes in which only vanilla was trained are left out."""
    found = {}
    for name in REGIMES:
        runs = compared_runs(lines, name)
        own: dict[str, list[float]] = {way: [] for way in WAYS}
        vanilla = mean(accuracies(runs["vanilla"][1.0])) if "vanilla" in runs else 0
        for method, budgets in runs.items():
            if way := _way(name, method):
                own[way] += [100 * (each / vanilla - 1) for each in accuracies(budgets[1.0])]
        if any(values for way, values in own.items() if way != "vanilla"):
            found[name] = own
    return found


def _way(regime: str, method: str) -> str | None:
    """By the method's fields; None for gates and changes in a usual way to sift."""
    sift = METHODS.get(method, {})
    base, changes = AXES.get(regime, ("", ()))
    if method == "vanilla":
        return "vanilla"
    if sift.get("sift_criterion") == "random":
        return "rows at random"
    if sift.get("sift_selector") == "mixed":
        return "half of them, half at random"
    if not sift or "sift_gate" in sift or method in {f"{base}_{change}" for change in changes}:
        return None
    exact = sift.get("sift_exit_layer") == -1
    return "largest exact losses" if exact else "largest at an early exit"


def plot(lines: Sequence[Line], folder: Path) -> None:
    """A row for each regime, a point for each run."""
    from matplotlib.figure import Figure

    found = gains(lines)
    figure = Figure(figsize=(8.5, 1.4 + 0.28 * len(found)), layout="constrained")
    axes = figure.subplots()
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    names = list(found)
    for index, (way, colour) in enumerate(WAYS.items()):
        shift = 0.12 * (index - 2)  # so that the points of two ways do not hide each other
        points = [(value, row) for row, name in enumerate(names) for value in found[name][way]]
        axes.plot(
            [value for value, _ in points],
            [row + shift for _, row in points],
            linestyle="",
            marker="o",
            markersize=4,
            alpha=0.8,
            color=colour,
            label=way,
        )
    axes.axvline(0, color="0.4", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("validation accuracy at equal cost, relative to vanilla's mean (%)")
    figure.legend(frameon=False, loc="outside upper center", ncols=3)
    figure.savefig(folder / PICTURE, dpi=120)
