"""The figures of docs/theory.md, from the numbers that `study` returns."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sift_trainer.probe.picture import COLOURS
from sift_trainer.reproduction.theory.bounds import (
    SIGMA_LIMIT,
    argmax_agreement,
    argmax_agreement_bound,
    p_sigma,
    p_sigma_symmetric,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TITLES = {
    "one-sided": "outliers on one side (1 parameter)",
    "symmetric": "outliers on both sides (3 parameters)",
}
_STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": f"cycler(color={COLOURS})",  # C0 black, C1 blue, C2 orange, C4 purple
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "grid.color": "0.9",
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.markersize": 4,
}


def draw(found: dict[str, Any], folder: Path) -> list[Path]:
    """Write theory_runs.png, theory_noise.png and theory_selection.png; return their paths."""
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


def _column(rows: Sequence[dict[str, Any]], key: str, unit: float = 1.0) -> list[float]:
    """The values in ``unit``; a gap in the curve where there is none."""
    return [math.nan if row[key] is None else row[key] / unit for row in rows]


def _draw_p(
    axes: "Axes", sigmas: Sequence[float], value: Callable[[float], float], labels: tuple[str, str]
) -> None:
    """``value`` of p(sigma), up to the limit of Theorem 5.15, and of the symmetric p(sigma)."""
    covered = [step / 100 * SIGMA_LIMIT for step in range(101)]
    axes.plot(covered, [value(p_sigma(each)) for each in covered], "C2-.", label=labels[0])
    axes.plot(sigmas, [value(p_sigma_symmetric(each)) for each in sigmas], "C4--", label=labels[1])


def _draw_runs(left: "Axes", right: "Axes", found: dict[str, Any]) -> None:
    for axes, part in zip((left, right), found["along_runs"], strict=True):
        for number, curve in enumerate(part["curves"]):
            name = f"greedy SGD, R = {curve['num_candidates']}" if number else "SGD"
            bound = f"its bound, Theorem {'5.7' if number else '5.8'}"
            for key, style, label in (("losses", "-", name), ("bounds", "--", bound)):
                excess = [value / part["minimum_loss"] - 1 for value in curve[key]]
                axes.plot(part["steps"], excess, f"C{number}{style}", linewidth=1.6, label=label)
            for key, style in (("crossing_of_bounds", ":"), ("crossing_of_runs", "-.")):
                if curve.get(key) is not None and curve[key] <= part["steps"][-1]:
                    axes.axvline(curve[key], color=f"C{number}", linestyle=style, linewidth=1.1)
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
    fine = [step / 100 * sigmas[-1] for step in range(101)]
    symmetric = r"bound by $\max(1, \frac{1}{2}(1 + e^{-\sqrt{2}\sigma})\,\rho_2^*)$"
    labels = r"bound by $p(\sigma)\,\rho_2^*$", symmetric
    _draw_p(left, fine, lambda p: top / max(1, p * ratio), labels)
    label = r"bound by $\rho_{2,approx}^*$ itself"
    left.plot(sigmas, _column(rows, "floor_of_bound", least), "C1--", label=label)
    for axes in (left, middle):
        of_two = _column(rows, "floor_of_runs", least)
        axes.plot(sigmas, of_two, "C1-o", label="greedy SGD, R = 2")
    of_four = _column(rows, "floor_of_runs_of_4", least)
    middle.plot(sigmas, of_four, "C2-o", label="greedy SGD, R = 4")
    updates = _column(rows, "steps_to_twice_minimum")
    right.plot(sigmas, updates, "C1-o", label="greedy SGD, R = 2")
    (sgd,) = _column(found["along_runs"][0]["curves"][:1], "steps_to_twice_minimum")
    for axes, level, label in ((left, 1, "SGD: F*"), (middle, 1, "SGD: F*"), (right, sgd, "SGD")):
        axes.axhline(level, color="black", linewidth=1.2, label=label)
        axes.set(xlabel=r"noise $\sigma$", ylabel="floor / F*")
    left.set(title="floor by Theorem 5.14, R = 2", ylim=(0.95, 2.4))
    left.legend(loc="upper left")
    middle.set(title="floor in the runs", ylim=(0.995, None))
    middle.legend(loc="upper right")
    right.set(title="speed in the runs", ylim=(0, None), ylabel="updates until E[F] = 2 F*")
    right.legend(loc="lower right")


def _draw_selection(left: "Axes", right: "Axes", found: dict[str, Any]) -> None:
    sigmas = [step / 50 for step in range(151)]
    symmetric = r"$\frac{1}{2}(1 + e^{-\sqrt{2}\sigma})$, any $\sigma$ and noise"
    _draw_p(left, sigmas, lambda p: p, (r"$p(\sigma)$, Theorem 5.15", symmetric))
    pairs = [_worst_pair(sigma) for sigma in sigmas]
    left.plot(sigmas, pairs, "C3-", label="normal noise, worst pair of losses")
    measured = [_column(found["over_sigma"]["rows"], key) for key in ("sigma", "kept_share")]
    left.plot(*measured, "C1-o", label="normal noise, one-sided outliers, worst w")
    left.axvline(SIGMA_LIMIT, color="0.6", linestyle=":", linewidth=1.2)
    left.text(SIGMA_LIMIT + 0.04, 0.33, r"$1 / (2\sqrt{2})$", color="0.35", fontsize=9)
    left.set(xlabel=r"noise $\sigma$ of the approximate losses", ylim=(0.3, 1.02))
    left.set_ylabel("expected loss of the chosen / of the larger")
    left.legend(loc="lower right")

    betas = [math.sin(math.pi / 2 * step / 200) for step in range(201)]  # dense near 1
    right.plot(betas, list(map(argmax_agreement, betas)), "C0-", label="$p_j$, Equation 13")
    sharper = [1 - math.sqrt(1 - beta**2) / 2 for beta in betas]
    right.plot(betas, sharper, "C4--", label=r"bound with $\mathrm{erfc}(t) \leq e^{-t^2}$")
    right.plot(betas, list(map(argmax_agreement_bound, betas)), "C2-.", label="bound, Equation 14")
    points = found["agreement"]
    beta, counted = _column(points, "beta"), _column(points, "counted")
    below = [point["counted"] - point["low"] for point in points]
    above = [point["high"] - point["counted"] for point in points]
    label = "counted in linear networks, 95%"
    right.errorbar(beta, counted, yerr=[below, above], fmt="C1o", capsize=3, label=label)
    right.set_xlabel(r"$\beta_j$, alignment of the exit with the full model")
    right.set_ylabel("chance that both choose the same of two")
    right.legend(loc="center left", bbox_to_anchor=(0.0, 0.32))


def _worst_pair(sigma: float) -> float:
    """1 - max over t of (1 - e^-t) Phi(-t / (sqrt(2) sigma)) (Equation 32)."""
    if sigma == 0:
        return 1.0
    logarithms = [step / 500 * sigma * math.sqrt(2) for step in range(1, 2001)]
    return 1 - max((1 - math.exp(-t)) * math.erfc(t / (2 * sigma)) / 2 for t in logarithms)
