"""The paper's Figures 1 and 2: validation accuracy over backpropagated samples, and over time."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from sift_trainer.probe.picture import COLOURS
from sift_trainer.reproduction.report.groups import Group, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(groups: Sequence[Group], form: Literal["svg", "png"]) -> bytes:
    """Both figures: side by side as PNG, one above the other for a phone as SVG.

    The same runs give the same SVG. Evaluation does not count as time, sampling does.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    size, layout = ((10.8, 4.6), (1, 2)) if form == "png" else ((5.4, 8.4), (2, 1))
    unit = unit_of([run.final.spent.total_seconds for group in groups for run in group.runs])
    # The salt makes an SVG reproducible; letters drawn as paths look alike everywhere.
    with rc_context({"svg.hashsalt": "sift-trainer", "svg.fonttype": "path", "font.size": 11}):
        figure = Figure(figsize=size, layout="constrained")
        samples, time = figure.subplots(*layout).flat
        _draw_panel(samples, groups, "backprop_samples", 1.0, "backpropagated samples")
        _draw_panel(time, groups, "total_seconds", unit.seconds, f"training time ({unit.name})")
        figure.legend(*time.get_legend_handles_labels(), loc="outside lower center", frameon=False)
        content = io.BytesIO()
        metadata = {"Date": None} if form == "svg" else None
        figure.savefig(content, format=form, dpi=150, metadata=metadata)
    return content.getvalue()


def _draw_panel(
    axes: "Axes", groups: Sequence[Group], total: str, scale: float, label: str
) -> None:
    """A line for each run in the colour of its configuration, over one of the `Totals`."""
    from matplotlib.ticker import EngFormatter

    for index, group in enumerate(groups):
        colour = COLOURS[index % len(COLOURS)]
        for number, run in enumerate(group.runs):
            axes.plot(
                [getattr(point.spent, total) / scale for point in run.points],
                [100 * point.accuracy for point in run.points],
                ("-", "--", ":")[index // len(COLOURS) % 3],
                color=colour,
                label="" if number else f"{group.label}: {100 * group.accuracy:.2f}%",
            )
    if scale == 1:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 5k, 200M
    axes.set(xlabel=label, ylabel=f"validation {groups[0].runs[0].measure} (%)")
    axes.grid(color="0.9")
    axes.set_xlim(left=0)
