"""A picture of a probe: which rows scores choose, and what these bring."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sift_trainer.probe.measurements import Estimate
from sift_trainer.probe.plotting import COLOURS, MARKERS, require_matplotlib
from sift_trainer.probe.results import Figures, ProbeResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_probe(result: ProbeResult, path: str | Path) -> Path:
    """Write a PNG with two panels over scoring's share of forward and backward; return its path.

    Left: overlap with the rows that exact losses keep. Right: descent per second over that of
    random rows, by AdamW's updates if there are any.

    Raises:
        ImportError: naming the extra to install, if matplotlib is missing.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _draw(left, result, lambda each: each.overlap)
    left.set_ylabel("share of the exactly kept rows (%)")
    adam = any(each.adam_descent is not None for each in result.figures)
    _draw(right, result, _ratio)
    right.axhline(100, color="0.35", linewidth=1.2, linestyle=":")
    right.set_ylabel(f"descent per second{', AdamW' if adam else ''} (% of random rows')")
    handles, _ = left.get_legend_handles_labels()
    (left if handles else right).legend(frameon=False, title="a marker per exit")
    figure.savefig(path, dpi=150)
    return Path(path)


def _ratio(figures: Figures) -> Estimate | None:
    descent = figures.adam_descent or figures.descent
    return None if descent is None else descent.ratio


def _draw(axes: "Axes", result: ProbeResult, number: Callable[[Figures], Estimate | None]) -> None:
    """A line with intervals through the exits, for each criterion and token fraction."""
    lines: dict[str, list[tuple[Figures, Estimate]]] = {}
    for each in result.figures:
        share = each.choice.token_fraction
        name = each.choice.criterion + ("" if share == 1 else f", {share:g} of the labels")
        line = lines.setdefault(name, [])
        if (found := number(each)) is not None:
            line.append((each, found))
    for index, (name, line) in enumerate(lines.items()):
        if not line:
            continue
        shares = [100 * each.scoring_share.value for each, _ in line]
        middle = [100 * found.value for _, found in line]
        axes.errorbar(
            shares,
            middle,
            yerr=[
                [max(0.0, 100 * (found.value - found.low)) for _, found in line],
                [max(0.0, 100 * (found.high - found.value)) for _, found in line],
            ],
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=4.5,
            linewidth=1.2,
            capsize=2.5,
            label=name,
        )
        for (each, _), x, y in zip(line, shares, middle, strict=True):
            if each.choice.exit_layer is not None:
                text, offset = str(each.choice.exit_layer), (5, 4)
                axes.annotate(text, (x, y), offset, textcoords="offset points", fontsize=8)
    axes.set_xlabel("scoring / (forward + backward) (%)")
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
