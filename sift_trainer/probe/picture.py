"""A picture of a probe: what the chosen rows bring, for which cost."""

from dataclasses import replace
from itertools import cycle
from pathlib import Path

from sift_trainer.probe.results import Estimate, ProbeResult

# Okabe and Ito's palette, told apart with any kind of colour blindness; the reference is black.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def plot_probe(result: ProbeResult, path: str | Path) -> Path:
    """Write a PNG, with a line for each criterion and token fraction; return its path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    lines: dict[str, list[tuple[int | None, Estimate, Estimate]]] = {}
    for each in result.figures:
        if each.descent is not None and each.descent.ratio is not None:
            name = str(replace(each.choice, exit_layer=None))
            point = (each.choice.exit_layer, each.scoring_share, each.descent.ratio)
            lines.setdefault(name, []).append(point)
    for (name, line), colour in zip(lines.items(), cycle(COLOURS), strict=False):
        axes.errorbar(
            [x.value for _, x, _ in line],
            [y.value for _, _, y in line],
            yerr=[[y.value - y.low for _, _, y in line], [y.high - y.value for _, _, y in line]],
            color=colour,
            marker="o",
            label=name,
        )
        for exit_layer, x, y in line:
            axes.annotate(str(exit_layer or ""), (x.value, y.value))
    axes.axhline(1, color="0.35", linestyle=":")
    axes.set_xlabel("scoring / (forward + backward)")
    axes.set_ylabel(f"descent per second{', AdamW' if result.by_adam else ''} over random rows'")
    axes.set_xlim(left=0)
    if lines:
        axes.legend(frameon=False, title="a marker per exit")
    figure.savefig(path, dpi=150)
    return Path(path)
