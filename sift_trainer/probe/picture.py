"""A picture of a probe: what scores choose, and what the chosen rows bring."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sift_trainer.plots import COLOURS, MARKERS, require_matplotlib
from sift_trainer.probe.results import Figures, ProbeResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_probe(result: ProbeResult, path: str | Path) -> Path:
    """Write a PNG with two panels over scoring's share of forward and backward; return its path.

    Left: overlap with the rows that exact losses keep. Right: descent per second over that of
    random rows, where 1 is as fast; along AdamW's updates where there are any.

    Raises `ImportError` that names the extra where matplotlib is missing.
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


def _ratio(figures: Figures) -> Any:
    descent = figures.adam_descent or figures.descent
    return None if descent is None else descent.ratio


def _draw(axes: "Axes", result: ProbeResult, found: Callable[[Figures], Any]) -> None:
    """A line for each criterion and token fraction, through its exits, with intervals."""
    lines: dict[str, list[Figures]] = {}
    for each in result.figures:
        share = each.choice.token_fraction
        name = each.choice.criterion + ("" if share == 1 else f", {share:g} of the labels")
        lines.setdefault(name, []).append(each)
    for index, (name, line) in enumerate(lines.items()):
        points = [(each, estimate) for each in line if (estimate := found(each)) is not None]
        if not points:
            continue
        middle = [100 * estimate.value for _, estimate in points]
        axes.errorbar(
            [100 * each.scoring_share.value for each, _ in points],
            middle,
            yerr=[
                [max(0.0, 100 * (e.value - e.low)) for _, e in points],
                [max(0.0, 100 * (e.high - e.value)) for _, e in points],
            ],
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=4.5,
            linewidth=1.2,
            capsize=2.5,
            label=name,
        )
        for (each, _), height in zip(points, middle, strict=True):
            if each.choice.exit_layer is not None:
                place = (100 * each.scoring_share.value, height)
                axes.annotate(
                    str(each.choice.exit_layer),
                    place,
                    xytext=(5, 4),
                    textcoords="offset points",
                    fontsize=8,
                )
    axes.set_xlabel("scoring / (forward + backward) (%)")
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlim(left=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
