"""The figure of all regimes of `time_to_accuracy.py`: what sifting gained at equal cost."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from sift_trainer.probe.plotting import COLOURS
from study.compared import Line, compared_runs
from study.figure import blank
from study.grids import changed_methods
from study.methods import METHODS
from study.regimes import REGIMES
from study.results import runs_of

PICTURE = "time_to_accuracy.png"
WAYS = {
    "vanilla": COLOURS[0],
    "rows at random": COLOURS[1],
    "largest exact losses": COLOURS[3],
    "largest at an early exit": COLOURS[2],
    "half of them, half at random": COLOURS[4],
}
"""What a run does -> its colour."""


def gains(lines: Sequence[Line]) -> dict[str, dict[str, list[float]]]:
    """Regime -> way -> the percent that each run's accuracy at the whole budget is above vanilla's
    mean. Left out are regimes where only vanilla was trained, gates, and what is changed of the
    usual way to sift but for rows at random."""
    found = {}
    for name in REGIMES:
        runs = compared_runs(runs_of(lines, name))
        at_equal_cost = {method: budgets[1.0] for method, budgets in runs.items() if 1.0 in budgets}
        own: dict[str, list[float]] = {way: [] for way in WAYS}
        if "vanilla" not in at_equal_cost:
            continue
        vanilla = mean(line["accuracy"] for line in at_equal_cost["vanilla"])
        for method, its_runs in at_equal_cost.items():
            if way := _way(name, method):
                own[way] += [100 * (line["accuracy"] / vanilla - 1) for line in its_runs]
        if any(values for way, values in own.items() if way != "vanilla"):
            found[name] = own
    return found


def plot_overview(lines: Sequence[Line], folder: Path) -> Path | None:
    """A row for each regime, a point for each run; None where nothing was compared."""
    found = gains(lines)
    if not found:
        return None
    figure, axes = blank(8.5, 1.4 + 0.28 * len(found))
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
    axes.set_xlabel("validation accuracy at equal cost, beside vanilla's mean (%)")
    figure.legend(frameon=False, loc="outside upper center", ncols=3)
    path = folder / PICTURE
    figure.savefig(path, dpi=120)
    return path


def _way(regime: str, method: str) -> str | None:
    """By the method's fields; None for what is not shown."""
    sift = METHODS[method].sift
    if sift["sift_keep_ratio"] == 1:
        return "vanilla"
    if sift.get("sift_criterion") == "random":
        return "rows at random"
    if "sift_random_share" in sift:
        return "half of them, half at random"
    if method in changed_methods(regime) or "sift_gate" in sift:
        return None
    exact = sift.get("sift_exit_layer") == -1
    return "largest exact losses" if exact else "largest at an early exit"
