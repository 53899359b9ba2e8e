"""A picture of a probe: which rows scores choose, and what these bring."""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from sift_trainer.probe.plotting import COLOURS, MARKERS
from sift_trainer.probe.results import Estimate, Figures, ProbeResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_probe(result: ProbeResult, path: str | Path) -> Path:
    """Write a PNG with two panels over scoring's share of forward and backward; return its path.

    Left: overlap with the rows that exact losses keep. Right: descent per second over that of
    random rows, by AdamW's updates if there are any.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _draw(left, result, lambda each: each.overlap)
    left.set_ylabel("share of the exactly kept rows")
    adam = any(each.adam_descent is not None for each in result.figures)
    _draw(right, result, lambda each: getattr(each.deciding_descent, "ratio", None))
    right.axhline(1, color="0.35", linewidth=1.2, linestyle=":")
    right.set_ylabel(f"descent per second{', AdamW' if adam else ''} over random rows'")
    right.legend(frameon=False, title="a marker per exit")
    figure.savefig(path, dpi=150)
    return Path(path)


def _draw(axes: "Axes", result: ProbeResult, number: Callable[[Figures], Estimate | None]) -> None:
    """A line with intervals through the exits, for each criterion and token fraction."""
    lines: dict[str, list[tuple[int | None, Estimate, Estimate]]] = {}
    for each in result.figures:
        share = each.choice.token_fraction
        name = each.choice.criterion + ("" if share == 1 else f", {share:g} of the labels")
        line = lines.setdefault(name, [])
        if (found := number(each)) is not None:
            line.append((each.choice.exit_layer, each.scoring_share, found))
    styles = zip(lines.items(), cycle(COLOURS), cycle(MARKERS), strict=False)
    for (name, line), colour, marker in styles:
        axes.errorbar(
            [x.value for _, x, _ in line],
            [y.value for _, _, y in line],
            yerr=[[y.value - y.low for _, _, y in line], [y.high - y.value for _, _, y in line]],
            color=colour,
            marker=marker,
            markersize=4.5,
            linewidth=1.2,
            capsize=2.5,
            label=name,
        )
        for exit_layer, x, y in line:
            text, offset = str(exit_layer or ""), (5, 4)
            place = (x.value, y.value)
            axes.annotate(text, place, offset, textcoords="offset points", fontsize=8)
    axes.set_xlabel("scoring / (forward + backward)")
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
