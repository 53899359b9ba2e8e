"""The figures of docs/theory.md, from the numbers that `study` returns."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sift_trainer.measuring.theory import argmax_agreement
from sift_trainer.probe.plotting import COLOURS, require_matplotlib
from sift_trainer.reproduction.theory.constants import (
    SIGMA_LIMIT,
    argmax_agreement_bound,
    p_sigma,
    p_sigma_symmetric,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLACK, _BLUE, _ORANGE, _GREEN, _PURPLE = COLOURS[:5]
_OF_CANDIDATES = {1: _BLACK, 2: _BLUE, 4: _ORANGE}
_COVERED = [step / 100 * SIGMA_LIMIT for step in range(101)]
"""sigma of Theorem 5.15."""

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
    top = part["max_loss_at_minimum"] / least
    sigmas = [row["sigma"] for row in rows]
    fine = [step / 100 * sigmas[-1] for step in range(101)]
    by_p = [top / (p_sigma(sigma) * ratio) for sigma in _COVERED]
    left.plot(_COVERED, by_p, "-.", color=_ORANGE, label=r"bound by $p(\sigma)\,\rho_2^*$")
    by_symmetric = [top / max(1, p_sigma_symmetric(sigma) * ratio) for sigma in fine]
    label = r"bound by $\max(1, \frac{1}{2}(1 + e^{-\sqrt{2}\sigma})\,\rho_2^*)$"
    left.plot(fine, by_symmetric, "--", color=_PURPLE, label=label)
    by_ratio = [row["floor_of_bound"] / least for row in rows]
    left.plot(sigmas, by_ratio, "--", color=_BLUE, label=r"bound by $\rho_{2,approx}^*$ itself")
    of_two = [row["floor_of_runs"] / least for row in rows]
    for axes in (left, middle):
        axes.plot(sigmas, of_two, "-o", color=_BLUE, label="greedy SGD, R = 2")
    of_four = [row["floor_of_runs_of_4"] / least for row in rows]
    middle.plot(sigmas, of_four, "-o", color=_ORANGE, label="greedy SGD, R = 4")
    for axes in (left, middle):
        axes.axhline(1, color="black", linewidth=1.2, label="SGD: F*")
        axes.set_ylabel("floor / F*")
    left.set(title="floor by Theorem 5.14, R = 2", ylim=(0.95, 2.4))
    left.legend(loc="upper left")
    middle.set(title="floor in the runs", ylim=(0.995, None))
    middle.legend(loc="upper right")

    nan = math.nan  # a gap in the curve
    steps = [nan if (at := row["steps_to_twice_minimum"]) is None else at for row in rows]
    right.plot(sigmas, steps, "-o", color=_BLUE, label="greedy SGD, R = 2")
    sgd = found["along_runs"][0]["curves"][0]["steps_to_twice_minimum"]
    right.axhline(nan if sgd is None else sgd, color="black", linewidth=1.2, label="SGD")
    right.set(title="speed in the runs", ylim=(0, None), ylabel="updates until E[F] = 2 F*")
    right.legend(loc="lower right")
    for axes in (left, middle, right):
        axes.set_xlabel(r"noise $\sigma$")


def _draw_selection(left: "Axes", right: "Axes", found: dict[str, Any]) -> None:
    sigmas = [step / 50 for step in range(151)]
    by_p = [p_sigma(sigma) for sigma in _COVERED]
    left.plot(_COVERED, by_p, "-.", color=_ORANGE, label=r"$p(\sigma)$, Theorem 5.15")
    symmetric = [p_sigma_symmetric(sigma) for sigma in sigmas]
    label = r"$\frac{1}{2}(1 + e^{-\sqrt{2}\sigma})$, any $\sigma$ and noise"
    left.plot(sigmas, symmetric, "--", color=_PURPLE, label=label)
    pairs = [_worst_pair(sigma) for sigma in sigmas]
    left.plot(sigmas, pairs, color=_GREEN, label="normal noise, worst pair of losses")
    rows = found["over_sigma"]["rows"]
    label = "normal noise, one-sided outliers, worst w"
    measured = [row["sigma"] for row in rows], [row["kept_share"] for row in rows]
    left.plot(*measured, "-o", color=_BLUE, label=label)
    left.axvline(SIGMA_LIMIT, color="0.6", linestyle=":", linewidth=1.2)
    left.text(SIGMA_LIMIT + 0.04, 0.33, r"$1 / (2\sqrt{2})$", color="0.35", fontsize=9)
    left.set(xlabel=r"noise $\sigma$ of the approximate losses", ylim=(0.3, 1.02))
    left.set_ylabel("expected loss of the chosen / of the larger")
    left.legend(loc="lower right")

    betas = [math.sin(math.pi / 2 * step / 200) for step in range(201)]  # dense near 1
    exact = [argmax_agreement(beta) for beta in betas]
    right.plot(betas, exact, color="black", label="$p_j$, Equation 13")
    sharper = [1 - math.sqrt(1 - beta**2) / 2 for beta in betas]
    label = r"bound with $\mathrm{erfc}(t) \leq e^{-t^2}$"
    right.plot(betas, sharper, "--", color=_PURPLE, label=label)
    bounds = [argmax_agreement_bound(beta) for beta in betas]
    right.plot(betas, bounds, "-.", color=_ORANGE, label="bound, Equation 14")
    beta, counted, low, high = (
        [point[key] for point in found["agreement"]] for key in ("beta", "counted", "low", "high")
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
