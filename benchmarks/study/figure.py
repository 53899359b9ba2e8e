"""The figures of `time_to_accuracy.py`: accuracy over cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sift_trainer.probe.plotting import COLOURS, MARKERS, require_matplotlib
from study.compared import Line, compared_runs, frontier_of
from study.grids import changed_methods
from study.methods import METHODS


def picture_of(name: str) -> str:
    """File of a regime's figure."""
    return f"time_to_accuracy_{name}.png"


def blank(width: float, height: float) -> tuple[Any, Any]:
    """A figure of so many inches and its axes, with a grid behind what will be drawn."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def plot(name: str, runs: Sequence[Line], steps: int, folder: Path) -> Path | None:
    """Accuracy over cost, a point for every run's end; vanilla's means are joined. Of the axes only
    rows at random are shown."""
    frontier = frontier_of(runs, steps)
    if frontier is None:
        return None
    figure, axes = blank(7.5, 4.4)
    axes.plot(
        [cost / steps for cost in frontier.costs],
        [100 * value for value in frontier.means],
        color=COLOURS[0],
        linewidth=1.6,
    )
    left_out = {each for each in changed_methods(name) if not each.endswith("_mixed")}
    shown = {method: own for method, own in compared_runs(runs).items() if method not in left_out}
    for index, (method, budgets) in enumerate(sorted(shown.items(), key=_first)):
        points = [
            (line["cost"] / steps, 100 * line["accuracy"])
            for own in budgets.values()
            for line in own
        ]
        axes.plot(
            [cost for cost, _ in points],
            [accuracy for _, accuracy in points],
            linestyle="",
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index // len(COLOURS) % len(MARKERS)],
            markersize=5,
            alpha=0.8,
            label=method,
        )
    axes.set_xlabel("cost, scoring included (1: the budget in steps without sifting)")
    axes.set_ylabel("validation accuracy at the end (%)")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    path = folder / picture_of(name)
    figure.savefig(path, dpi=120)
    return path


def _first(item: tuple[str, Any]) -> tuple[bool, int]:
    return item[0] != "vanilla", list(METHODS).index(item[0])
