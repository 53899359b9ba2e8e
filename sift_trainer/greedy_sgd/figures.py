"""The figures of docs/theory.md, drawn from what `study` returns."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sift_trainer.plots import require_matplotlib
from sift_trainer.theory import (
    SIGMA_LIMIT,
    argmax_agreement,
    argmax_agreement_bound,
    p_sigma,
    p_sigma_symmetric,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette; the reference is black.
_OF_CANDIDATES = {1: "#000000", 2: "#0072B2", 4: "#D55E00"}
_BLUE, _ORANGE, _GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_COVERED = [step / 100 * SIGMA_LIMIT for step in range(101)]
"""sigma of Theorem 5.15."""

_TITLES = {
    "one-sided": "outliers on one side (1 parameter)",
    "symmetric": "outliers on both sides (3 parameters)",
}


def draw(found: dict[str, Any], folder: Path) -> list[Path]:
    """Write theory_runs.png, theory_noise.png and theory_selection.png; return their paths.

    Raises:
        ImportError: that names the extra where matplotlib is missing.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawings: list[tuple[str, int, Callable[..., None]]] = [
        ("theory_runs.png", 2, _draw_runs),
        ("theory_noise.png", 3, _draw_noise),
        ("theory_selection.png", 2, _draw_selection),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, panels, drawing in drawings:
        figure = Figure(figsize=(5 + 3 * panels, 4.4), layout="constrained")  # no pyplot
        FigureCanvasAgg(figure)
        every = figure.subplots(1, panels)
        drawing(*every, found)
        for axes in every:
            axes.grid(color="0.9")
            axes.set_axisbelow(True)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        figure.savefig(folder / name, dpi=150)
    return [folder / name for name, _, _ in drawings]


def _draw_runs(left: "Axes", right: "Axes", found: dict[str, Any]) -> None:
    for axes, part in zip((left, right), found["along_runs"], strict=True):
        least = part["minimum_loss"]
        for curve in part["curves"]:
            candidates = curve["num_candidates"]
            colour = _OF_CANDIDATES[candidates]
            theorem = "5.8" if candidates == 1 else "5.7"
            name = "SGD" if candidates == 1 else f"greedy SGD, R = {candidates}"
            for values, style, label in (
                (curve["losses"], "-", name),
                (curve["bounds"], "--", f"its bound, Theorem {theorem}"),
            ):
                excess = [value / least - 1 for value in values]
                axes.plot(part["steps"], excess, style, color=colour, linewidth=1.6, label=label)
            for key, style in (("crossing_of_bounds", ":"), ("crossing_of_runs", "-.")):
                if curve.get(key) is not None and curve[key] <= part["steps"][-1]:
                    axes.axvline(curve[key], color=colour, linestyle=style, linewidth=1.1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(_TITLES[part["problem"]], fontsize=11)
        axes.set_xlabel("updates K")
    left.set_ylabel("excess loss of the average, E[F] / F* - 1")
    limits = [axes.get_ylim() for axes in (left, right)]
    for axes in (left, right):  # one scale, that shows the ends of all curves
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    right.legend(loc="lower left", frameon=False, fontsize=9)
    left.text(
        0.02,
        0.03,
        "vertical: where greedy SGD falls behind,\ndotted by its bound, dash-dotted in the runs",
        transform=left.transAxes,
        color="0.35",
        fontsize=9,
    )


def _draw_noise(left: "Axes", middle: "Axes", right: "Axes", found: dict[str, Any]) -> None:
    part = found["over_sigma"]
    least, top, rows = part["minimum_loss"], part["max_loss_at_minimum"], part["rows"]
    sigmas = [row["sigma"] for row in rows]
    fine = [step / 100 * sigmas[-1] for step in range(101)]
    by_p = [top / (p_sigma(sigma) * part["loss_ratio"]) / least for sigma in _COVERED]
    left.plot(_COVERED, by_p, "-.", color=_ORANGE, label=r"bound by $p(\sigma)\,\rho_2^*$")
    by_symmetric = [
        top / max(1, p_sigma_symmetric(sigma) * part["loss_ratio"]) / least for sigma in fine
    ]
    label = r"bound by $\max(1, \frac{1}{2}(1 + e^{-\sqrt{2}\sigma})\,\rho_2^*)$"
    left.plot(fine, by_symmetric, "--", color=_PURPLE, label=label)
    by_ratio = [row["floor_of_bound"] / least for row in rows]
    left.plot(sigmas, by_ratio, "--", color=_BLUE, label=r"bound by $\rho_{2,approx}^*$ itself")
    for axes in (left, middle):
        for key, candidates in (("floor_of_runs", 2), ("floor_of_runs_of_4", 4)):
            if axes is left and candidates == 4:
                continue
            axes.plot(
                sigmas,
                [row[key] / least for row in rows],
                "-o",
                color=_OF_CANDIDATES[candidates],
                markersize=4,
                label=f"greedy SGD, R = {candidates}",
            )
        axes.axhline(1, color="black", linewidth=1.2, label="SGD: F*")
    left.set_title("floor by Theorem 5.14, R = 2", fontsize=11)
    left.set_ylabel("floor / F*")
    left.set_ylim(0.95, 2.4)
    left.legend(loc="upper left", frameon=False, fontsize=9)
    middle.set_title("floor in the runs", fontsize=11)
    middle.set_ylabel("floor / F*")
    middle.set_ylim(bottom=0.995)
    middle.legend(loc="upper right", frameon=False, fontsize=9)

    reached = [(row["sigma"], row["steps_to_twice_minimum"]) for row in rows]
    reached = [(sigma, steps) for sigma, steps in reached if steps is not None]
    sgd = found["along_runs"][0]["curves"][0]["steps_to_twice_minimum"]
    if reached:
        x, y = zip(*reached, strict=True)
        right.plot(x, y, "-o", color=_BLUE, markersize=4, label="greedy SGD, R = 2")
    if sgd is not None:
        right.axhline(sgd, color="black", linewidth=1.2, label="SGD")
    right.set_title("speed in the runs", fontsize=11)
    right.set_ylim(bottom=0)
    right.set_ylabel("updates until E[F] = 2 F*")
    right.legend(loc="lower right", frameon=False, fontsize=9)
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
    left.plot(
        [row["sigma"] for row in rows],
        [row["kept_share"] for row in rows],
        "-o",
        color=_BLUE,
        markersize=4,
        label="normal noise, one-sided outliers, worst w",
    )
    left.axvline(SIGMA_LIMIT, color="0.6", linestyle=":", linewidth=1.2)
    left.text(SIGMA_LIMIT + 0.04, 0.33, r"$1 / (2\sqrt{2})$", color="0.35", fontsize=9)
    left.set_xlabel(r"noise $\sigma$ of the approximate losses")
    left.set_ylabel("expected loss of the chosen / of the larger")
    left.set_ylim(0.3, 1.02)
    left.legend(loc="lower right", frameon=False, fontsize=9)

    betas = [math.sin(math.pi / 2 * step / 200) for step in range(201)]  # dense near 1
    exact = [argmax_agreement(beta) for beta in betas]
    right.plot(betas, exact, color="black", label="$p_j$, Equation 13")
    sharper = [1 - math.sqrt(1 - beta**2) / 2 for beta in betas]
    label = r"bound with $\mathrm{erfc}(t) \leq e^{-t^2}$"
    right.plot(betas, sharper, "--", color=_PURPLE, label=label)
    bounds = [argmax_agreement_bound(beta) for beta in betas]
    right.plot(betas, bounds, "-.", color=_ORANGE, label="bound, Equation 14")
    points = found["agreement"]
    right.errorbar(
        [point["beta"] for point in points],
        [point["counted"] for point in points],
        yerr=[
            [max(0.0, point["counted"] - point["low"]) for point in points],
            [max(0.0, point["high"] - point["counted"]) for point in points],
        ],
        fmt="o",
        color=_BLUE,
        markersize=4,
        capsize=3,
        label="counted in linear networks, 95%",
    )
    right.set_xlabel(r"$\beta_j$, alignment of the exit with the full model")
    right.set_ylabel("chance that both choose the same of two")
    right.legend(loc="center left", bbox_to_anchor=(0.0, 0.32), frameon=False, fontsize=9)


def _worst_pair(sigma: float) -> float:
    """Least expected loss of the chosen over the larger, over pairs of losses, zeta normal.

    1 - max over t of (1 - e^-t) Phi(-t / (sqrt(2) sigma)), by Equation 32.
    """
    if sigma == 0:
        return 1.0
    lost = 0.0
    for step in range(1, 2001):
        logarithm = step / 500 * sigma * math.sqrt(2)
        chance = math.erfc(logarithm / (2 * sigma)) / 2
        lost = max(lost, (1 - math.exp(-logarithm)) * chance)
    return 1 - lost
