"""The paper's Figures 1 and 2: validation accuracy over backpropagated samples, and over time."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sift_trainer.probe.plotting import COLOURS, MARKERS, require_matplotlib
from sift_trainer.reproduction.report.groups import Group
from sift_trainer.reproduction.report.page import Picture
from sift_trainer.reproduction.report.statistics import unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SAMPLES, _SECONDS = "backprop_samples", "total_seconds"  # of `Totals`
_PANELS = {_SAMPLES: "backpropagated samples", _SECONDS: "training time"}
_LINES = ("-", "--", ":")


def pictures(groups: Sequence[Group], suffix: str = "") -> list[Picture]:
    """Both figures, each an SVG narrow enough for a phone. The same runs give the same SVG."""
    measure = groups[0].first.measure
    return [
        Picture(
            _draw(groups, [panel], "svg").decode(),
            f"figure_{number}{suffix}.svg",
            f"Figure {number}: validation {measure} over {name}.",
        )
        for number, (panel, name) in enumerate(_PANELS.items(), start=1)
    ]


def write_png(groups: Sequence[Group], path: Path) -> None:
    """Both figures side by side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_draw(groups, list(_PANELS), "png"))


def _draw(groups: Sequence[Group], panels: Sequence[str], form: str) -> bytes:
    """Evaluation does not count as time, sampling does."""
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # The salt makes an SVG reproducible; letters drawn as paths look alike everywhere.
    with rc_context({"svg.hashsalt": "sift-trainer", "svg.fonttype": "path", "font.size": 11}):
        figure = Figure(figsize=(5.4 * len(panels), 4.6), layout="constrained")
        for axes, panel in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            _draw_panel(axes, groups, panel)
        handles, labels = axes.get_legend_handles_labels()
        columns = 1 if max(map(len, labels)) > 22 * len(panels) else 2
        figure.legend(handles, labels, loc="outside lower center", frameon=False, ncols=columns)
        content = io.BytesIO()
        metadata = {"Date": None} if form == "svg" else None
        figure.savefig(content, format=form, dpi=150, metadata=metadata)
    return content.getvalue()


def _draw_panel(axes: "Axes", groups: Sequence[Group], panel: str) -> None:
    from matplotlib.ticker import EngFormatter

    runs = [run for group in groups for run in group.runs]
    unit = unit_of([run.final.spent.total_seconds for run in runs])
    size, label = unit.seconds, f"{_PANELS[panel]} ({unit.name})"
    if panel == _SAMPLES:
        size, label = 1.0, _PANELS[panel]
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 5k, 200M
    axes.set_xlabel(label)
    for index, group in enumerate(groups):
        colour = COLOURS[index % len(COLOURS)]
        style: dict[str, Any] = {
            "color": colour,
            "linestyle": _LINES[index // len(COLOURS) % len(_LINES)],
            "marker": MARKERS[index % len(MARKERS)],
            "markersize": 3.5,
            "markevery": max(1, len(group.first.points) // 12),
            "linewidth": 1.6,
        }
        _draw_group(axes, group, panel, size, style)
        for begin, end in [stretch for run in group.runs for stretch in run.sifted]:
            edges = [getattr(side, panel) / size for side in (begin, end)]
            axes.axvspan(*edges, color=colour, alpha=0.2 / len(runs), linewidth=0, zorder=0)
    if any(run.sifted for run in runs):
        axes.set_title("shaded: sifting", loc="right", fontsize=9, color="0.35")
    axes.set_ylabel(f"validation {runs[0].measure} (%)")
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlim(left=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_group(axes: "Axes", group: Group, panel: str, size: float, style: dict[str, Any]) -> None:
    """The mean of the seeds in a band from the lowest to the highest; a line for each seed if they
    were evaluated at different steps, as runs of a given time are."""
    points = group.points
    points["accuracy"] *= 100
    points[panel] /= size
    final = sum(run.final.accuracy for run in group.runs) / len(group.runs)
    label = f"{group.label}: {100 * final:.2f}%"
    at_step = points.drop(columns="run").groupby("step")
    if (at_step.size() == len(group.runs)).all():
        mean = at_step.mean()
        axes.plot(mean[panel], mean["accuracy"], label=label, **style)
        low, high = at_step["accuracy"].min(), at_step["accuracy"].max()
        axes.fill_between(mean[panel], low, high, color=style["color"], alpha=0.15, linewidth=0)
        return
    for number, (_, run) in enumerate(points.groupby("run")):
        axes.plot(run[panel], run["accuracy"], label="" if number else label, **style)
