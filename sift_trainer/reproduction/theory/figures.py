"""The figures of docs/theory.md, from the numbers that `study` returns."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sift_trainer.probe.plotting import COLOURS, require_matplotlib
from sift_trainer.reproduction.theory.constants import (
    SIGMA_LIMIT,
    argmax_agreement,
    argmax_agreement_bound,
    p_sigma,
    p_sigma_symmetric,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLACK, _BLUE, _ORANGE, _GREEN, _PURPLE = COLOURS[:5]
_OF_CANDIDATES = {1: _BLACK, 2: _BLUE, 4: _ORANGE}
_TITLES = {
    "one-sided": "outliers on one side (1 parameter)",
    "symmetric": "outliers on both sides (3 parameters)",
}
_STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "grid.color": "0.9",
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.markersize": 4,
}


def draw(found: dict[str, Any], folder: Path) -> list[Path]:
    """Write theory_runs.png, theory_noise.png and theory_selection.png; return their paths.

    Raises:
        ImportError: if matplotlib is missing; the message names the extra.
    """
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    drawings: list[tuple[str, int, Callable[..., None]]] = [
        ("runs", 2, _draw_runs),
        ("noise", 3, _draw_noise),
        ("selection", 2, _draw_selection),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, panels, drawing in drawings:
        with rc_context(_STYLE):
            figure = Figure(figsize=(5 + 3 * panels, 4.4), layout="constrained")  # no pyplot
            drawing(*figure.subplots(1, panels), found)
            figure.savefig(folder / f"theory_{name}.png", dpi=150)
    return [folder / f"theory_{name}.png" for name, _, _ in drawings]


def _curve(
    axes: "Axes",
    style: str,
    colour: str,
    label: str,
    at: Sequence[float],
    value: Callable[[float], float],
) -> None:
    axes.plot(at, [value(each) for each in at], style, color=colour, label=label)


def _p_curves(
    axes: "Axes", sigmas: Sequence[float], value: Callable[[float], float], *labels: str
) -> None:
    """``value`` of the two p(sigma), Theorem 5.15's up to its limit."""
    covered = [step / 100 * SIGMA_LIMIT for step in range(101)]
    _curve(axes, "-.", _ORANGE, labels[0], covered, lambda sigma: value(p_sigma(sigma)))
    _curve(axes, "--", _PURPLE, labels[1], sigmas, lambda sigma: value(p_sigma_symmetric(sigma)))


def _column(rows: Sequence[dict[str, Any]], key: str, unit: float = 1.0) -> list[float]:
    """The values in ``unit``; a gap in the curve where there is none."""
    return [math.nan if row[key] is None else row[key] / unit for row in rows]


def _draw_runs(left: "Axes", right: "Axes", found: dict[str, Any]) -> None:
    for axes, part in zip((left, right), found["along_runs"], strict=True):
        for curve in part["curves"]:
            candidates = curve["num_candidates"]
            colour = _OF_CANDIDATES[candidates]
            theorem = "5.8" if candidates == 1 else "5.7"
            name = "SGD" if candidates == 1 else f"greedy SGD, R = {candidates}"
            for key, style, label in (
                ("losses", "-", name),
                ("bounds", "--", f"its bound, Theorem {theorem}"),
            ):
                excess = [value / part["minimum_loss"] - 1 for value in curve[key]]
                axes.plot(part["steps"], excess, style, color=colour, linewidth=1.6, label=label)
            for key, style in (("crossing_of_bounds", ":"), ("crossing_of_runs", "-.")):
                if curve.get(key) is not None and curve[key] <= part["steps"][-1]:
                    axes.axvline(curve[key], color=colour, linestyle=style, linewidth=1.1)
        title = _TITLES[part["problem"]]
        axes.set(xscale="log", yscale="log", xlabel="updates K", title=title)
    left.set_ylabel("excess loss of the average, E[F] / F* - 1")
    limits = [axes.get_ylim() for axes in (left, right)]
    for axes in (left, right):  # one scale for both panels
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    right.legend(loc="lower left")
    note = "vertical: where greedy SGD falls behind,\ndotted by its bound, dash-dotted in the runs"
    left.text(0.02, 0.03, note, transform=left.transAxes, color="0.35", fontsize=9)


def _draw_noise(left: "Axes", middle: "Axes", right: "Axes", found: dict[str, Any]) -> None:
    part = found["over_sigma"]
    least, ratio, rows = part["minimum_loss"], part["loss_ratio"], part["rows"]
    top, sigmas = part["max_loss_at_minimum"] / least, _column(rows, "sigma")
    _p_curves(
        left,
        [step / 100 * sigmas[-1] for step in range(101)],
        lambda p: top / max(1, p * ratio),
        r"bound by $p(\sigma)\,\rho_2^*$",
        r"bound by $\max(1, \frac{1}{2}(1 + e^{-\sqrt{2}\sigma})\,\rho_2^*)$",
    )
    for axes, key, style, colour, label in (
        (left, "floor_of_bound", "--", _BLUE, r"bound by $\rho_{2,approx}^*$ itself"),
        (left, "floor_of_runs", "-o", _BLUE, "greedy SGD, R = 2"),
        (middle, "floor_of_runs", "-o", _BLUE, "greedy SGD, R = 2"),
        (middle, "floor_of_runs_of_4", "-o", _ORANGE, "greedy SGD, R = 4"),
    ):
        axes.plot(sigmas, _column(rows, key, least), style, color=colour, label=label)
    key = "steps_to_twice_minimum"
    right.plot(sigmas, _column(rows, key), "-o", color=_BLUE, label="greedy SGD, R = 2")
    (sgd,) = _column(found["along_runs"][0]["curves"][:1], key)
    for axes, level, label, unit, corner in (
        (left, 1, "SGD: F*", "floor / F*", "upper left"),
        (middle, 1, "SGD: F*", "floor / F*", "upper right"),
        (right, sgd, "SGD", "updates until E[F] = 2 F*", "lower right"),
    ):
        axes.axhline(level, color="black", linewidth=1.2, label=label)
        axes.set(xlabel=r"noise $\sigma$", ylabel=unit)
        axes.legend(loc=corner)
    left.set(title="floor by Theorem 5.14, R = 2", ylim=(0.95, 2.4))
    middle.set(title="floor in the runs", ylim=(0.995, None))
    right.set(title="speed in the runs", ylim=(0, None))


def _draw_selection(left: "Axes", right: "Axes", found: dict[str, Any]) -> None:
    sigmas = [step / 50 for step in range(151)]
    symmetric = r"$\frac{1}{2}(1 + e^{-\sqrt{2}\sigma})$, any $\sigma$ and noise"
    _p_curves(left, sigmas, lambda p: p, r"$p(\sigma)$, Theorem 5.15", symmetric)
    _curve(left, "-", _GREEN, "normal noise, worst pair of losses", sigmas, _worst_pair)
    rows, label = found["over_sigma"]["rows"], "normal noise, one-sided outliers, worst w"
    left.plot(_column(rows, "sigma"), _column(rows, "kept_share"), "-o", color=_BLUE, label=label)
    left.axvline(SIGMA_LIMIT, color="0.6", linestyle=":", linewidth=1.2)
    left.text(SIGMA_LIMIT + 0.04, 0.33, r"$1 / (2\sqrt{2})$", color="0.35", fontsize=9)
    left.set(xlabel=r"noise $\sigma$ of the approximate losses", ylim=(0.3, 1.02))
    left.set_ylabel("expected loss of the chosen / of the larger")
    left.legend(loc="lower right")

    betas = [math.sin(math.pi / 2 * step / 200) for step in range(201)]  # dense near 1
    _curve(right, "-", _BLACK, "$p_j$, Equation 13", betas, argmax_agreement)
    label = r"bound with $\mathrm{erfc}(t) \leq e^{-t^2}$"
    _curve(right, "--", _PURPLE, label, betas, lambda beta: 1 - math.sqrt(1 - beta**2) / 2)
    _curve(right, "-.", _ORANGE, "bound, Equation 14", betas, argmax_agreement_bound)
    beta, counted, low, high = (
        _column(found["agreement"], key) for key in ("beta", "counted", "low", "high")
    )
    below = [share - end for share, end in zip(counted, low, strict=True)]
    above = [end - share for share, end in zip(counted, high, strict=True)]
    label = "counted in linear networks, 95%"
    right.errorbar(beta, counted, yerr=[below, above], fmt="o", color=_BLUE, capsize=3, label=label)
    right.set_xlabel(r"$\beta_j$, alignment of the exit with the full model")
    right.set_ylabel("chance that both choose the same of two")
    right.legend(loc="center left", bbox_to_anchor=(0.0, 0.32))


def _worst_pair(sigma: float) -> float:
    """Smallest expected selected loss over the larger loss, over pairs of losses, zeta normal.

    1 - max over t of (1 - e^-t) Phi(-t / (sqrt(2) sigma)), by Equation 32.
    """
    if sigma == 0:
        return 1.0
    logarithms = [step / 500 * sigma * math.sqrt(2) for step in range(1, 2001)]
    return 1 - max((1 - math.exp(-t)) * math.erfc(t / (2 * sigma)) / 2 for t in logarithms)
