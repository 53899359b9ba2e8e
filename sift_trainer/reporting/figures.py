"""The paper's Figures 1 and 2: validation accuracy over backpropagated samples, and over time."""

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sift_trainer.plots import COLOURS, MARKERS, require_matplotlib
from sift_trainer.report import Run, Totals
from sift_trainer.reporting.groups import MASKED_LM, Comparison, Group
from sift_trainer.reporting.page import Figure
from sift_trainer.reporting.statistics import unit_of
from sift_trainer.seeds import mean_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST = len(COLOURS)
_INNER_EXITS = (2, 3)
_COUNTS = ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands"))


def figures(comparison: Comparison, suffix: str = "") -> list[Figure]:
    """Both, each an SVG of its own: narrow enough for a phone, with letters that stay readable.

    Sampling is in the time, evaluation is not. Seeds that were evaluated at the same steps are
    their mean within a band from lowest to highest, others a line each. Where there are more
    configurations than colours, exits 2 and 3 of a masked-LM model are left to the tables, as in
    the paper, and then the last ones.

    Raises:
        ImportError: matplotlib is missing; names the extra.
    """
    shown = _shown(comparison)
    left = len(comparison.groups) - len(shown)
    more = f" {left} more are in the tables." if left else ""
    samples = max(run.run.final.spent.backprop_samples for run in comparison.runs)
    size, count = next(((s, name) for s, name in _COUNTS if samples >= s), (1.0, ""))
    unit, seconds = unit_of([run.run.final.spent.total_seconds for run in comparison.runs])
    thousands = f"backpropagated samples ({count})" if count else "backpropagated samples"
    drawn = (
        (1, "backpropagated samples", thousands, lambda spent: spent.backprop_samples / size),
        (
            2,
            "training time",
            f"training time ({unit})",
            lambda spent: spent.total_seconds / seconds,
        ),
    )
    return [
        Figure(
            _svg(shown, comparison.measure, label, position),
            f"figure_{number}{suffix}.svg",
            f"Figure {number}: validation {comparison.measure} over {name}.{more}",
        )
        for number, name, label, position in drawn
    ]


def _shown(comparison: Comparison) -> list[Group]:
    groups = comparison.groups
    if len(groups) > _MOST and comparison.measure == MASKED_LM:
        groups = [
            group
            for group in groups
            if group.is_baseline or group.is_last_exit or group.exit_layer not in _INNER_EXITS
        ]
    return groups[:_MOST]


def _svg(
    groups: Sequence[Group], measure: str, label: str, position: Callable[[Totals], float]
) -> str:
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Drawing

    # The salt makes the same runs the same file; letters as paths look alike everywhere.
    with rc_context({"svg.hashsalt": "sift-trainer", "svg.fonttype": "path", "font.size": 11}):
        drawing = Drawing(figsize=(5.4, 4.6), layout="constrained")  # no pyplot: no global state
        FigureCanvasSVG(drawing)
        axes = drawing.subplots()
        for index, group in enumerate(groups):
            _draw(axes, group, index, position)
        axes.set_xlabel(label)
        axes.set_ylabel(f"validation {measure} (%)")
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.set_xlim(left=0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        columns = 1 if max(len(group.label) for group in groups) > 22 else 2
        drawing.legend(loc="outside lower center", frameon=False, ncols=columns)
        content = io.StringIO()
        drawing.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def _draw(axes: "Axes", group: Group, index: int, position: Callable[[Totals], float]) -> None:
    runs = [run.run for run in group.runs]
    style: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "linewidth": 1.6}
    marked = {"marker": MARKERS[index % len(MARKERS)], "markersize": 3.5, "label": group.label}
    try:
        middle = mean_run(group.label, runs)
    except ValueError:  # evaluated at other steps, as runs of a given time are
        for number, run in enumerate(runs):
            _line(axes, run, position, **style, **(marked if number == 0 else {}))
        return
    _line(axes, middle, position, **style, **marked)
    if len(runs) > 1:
        accuracies = list(zip(*([p.accuracy for p in run.points] for run in runs), strict=True))
        axes.fill_between(
            [position(point.spent) for point in middle.points],
            [100 * min(each) for each in accuracies],
            [100 * max(each) for each in accuracies],
            color=style["color"],
            alpha=0.15,
            linewidth=0,
        )


def _line(axes: "Axes", run: Run, position: Callable[[Totals], float], **style: Any) -> None:
    style.setdefault("markevery", max(1, len(run.points) // 12))
    axes.plot(
        [position(point.spent) for point in run.points],
        [100 * point.accuracy for point in run.points],
        **style,
    )
