"""The paper's Figures 1 and 2 from measured runs: accuracy over samples and over time."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sift_trainer.report import Run, Totals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, told apart with any kind of colour blindness; the reference is black.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def require_matplotlib() -> None:
    """Raise `ImportError` where the figure could not be drawn: better before a training than after.

    The message names the extra to install.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'the figure needs matplotlib: pip install "sift-trainer[report]"'
        ) from error


def plot_accuracy(runs: Sequence[Run], path: str | Path) -> Path:
    """Write a PNG with two panels and return its path.

    Left: validation accuracy over backpropagated samples (thousands), shaded where sifting was
    on. Right: the same over training seconds, in which the sampling is included and evaluation is
    not; there each run has a time of its own, so its first and last sifted moment are marked by
    vertical lines in its colour.

    Raises `ImportError` that names the extra where matplotlib is missing.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")  # no pyplot, hence no global state
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    _draw(left, runs, lambda spent: spent.backprop_samples / 1000)
    _draw(right, runs, lambda spent: spent.total_seconds)
    _shade_sifting(left, runs)
    _mark_sifting(right, runs)
    left.set_xlabel("backpropagated samples (thousands)")
    left.set_ylabel(f"validation {runs[0].measure} (%)")
    right.set_xlabel("training time, sampling included (s)")
    left.legend(loc="upper left", frameon=False, title="run: last accuracy")
    figure.savefig(path, dpi=150)
    return Path(path)


def _draw(axes: "Axes", runs: Sequence[Run], position: Callable[[Totals], float]) -> None:
    for index, run in enumerate(runs):
        axes.plot(
            [position(point.spent) for point in run.points],
            [100 * point.accuracy for point in run.points],
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=3.5,
            linewidth=1.6,
            label=f"{run.name}: {100 * run.final.accuracy:.2f}%",
        )
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlim(left=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _shade_sifting(axes: "Axes", runs: Sequence[Run]) -> None:
    """Grey where any run sifted; runs of one schedule share the stretch."""
    stretches = {
        (begin.backprop_samples / 1000, end.backprop_samples / 1000)
        for run in runs
        for begin, end in run.sifted
    }
    for begin, end in sorted(stretches):
        axes.axvspan(begin, end, color="0.93", zorder=0, linewidth=0)
    if stretches:
        begin, end = min(stretches)
        _note(axes, (begin + end) / 2, "sifting on", ha="center")


def _mark_sifting(axes: "Axes", runs: Sequence[Run]) -> None:
    for index, run in enumerate(runs):
        colour = COLOURS[index % len(COLOURS)]
        for moment in [side.total_seconds for stretch in run.sifted for side in stretch]:
            axes.axvline(moment, color=colour, linestyle=":", linewidth=1.2)
    if any(run.sifted for run in runs):
        _note(axes, 0.98, "dotted: sifting begins, ends", ha="right", of_width=True)


def _note(axes: "Axes", x: float, text: str, *, ha: str, of_width: bool = False) -> None:
    transform: Any = axes.transAxes if of_width else axes.get_xaxis_transform()
    axes.text(x, 0.03, text, transform=transform, ha=ha, color="0.35", fontsize=9)
