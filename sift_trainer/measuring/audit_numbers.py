"""The figures of one audit, and what audits come to on a log line. Pure functions."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sift_trainer.measuring import theory
from sift_trainer.measuring.choices import comparable, overlap, spearman
from sift_trainer.measuring.gradients import Gradient, inner, length

Audit = dict[str, float]
"""Figures of one audit by name; one that has no meaning there is left out."""

PLAIN, ADAM = "descent", "adam_descent"
"""Updates along the gradient, and along AdamW's preconditioned gradient."""

_SCORES = ("overlap", "spearman", "agreement", "sigma", "rho_2", "rho_2_approx")
_UPDATES = ("kept", "random", "dropped", "kept_at_equal_length", "random_at_equal_length")
NAMES = (
    *_SCORES,
    *("kept_loss", "dropped_loss"),
    *(f"{kind}_{name}" for kind in (PLAIN, ADAM) for name in _UPDATES),
    *("scoring_share", "seconds"),
)
"""Of all figures, in the order in which processes exchange them."""


def choice_figures(
    losses: Tensor, scores: Tensor, kept: Tensor, exact: Tensor, approximates_loss: bool
) -> Audit:
    """How scores (B,) and the rows chosen by them go with exact losses (B,), all on the CPU.

    Args:
        kept: rows (k,) that are chosen.
        exact: rows (k,) that exact losses would choose.
        approximates_loss: whether scores are approximate losses, which have a sigma.
    """
    both = comparable(losses, scores)
    chosen = torch.zeros(len(losses), dtype=torch.bool).index_fill(0, kept, True)
    values, by = losses[both], scores[both]
    found = {
        "overlap": overlap(kept, exact),
        "spearman": spearman(values, by),
        "agreement": _attempt(lambda: theory.pairwise_agreement(values, by).share),
        "rho_2": _attempt(lambda: theory.loss_ratio(values)),
        "rho_2_approx": _attempt(lambda: theory.approximate_loss_ratio(values, by)),
        "kept_loss": float(losses[chosen & both].mean()),
        "dropped_loss": float(losses[~chosen & both].mean()),
    }
    if approximates_loss:
        above = (values > 0) & (by > 0)
        found["sigma"] = _attempt(lambda: theory.fit_noise(values[above], by[above]).sigma)
    return {name: value for name, value in found.items() if value is not None}


def update_figures(
    kind: str,
    held_out: Gradient,
    kept: Gradient,
    random: Gradient,
    keep_ratio: float,
    scales: Sequence[Tensor] | None = None,
) -> Audit:
    """By how much a held-out loss falls, to first order and per unit of the learning rate.

    Args:
        held_out: gradient of the held-out rows.
        kept: of the rows that are chosen.
        random: of as many random rows.
        keep_ratio: share of the rows that are chosen.
        scales: AdamW's, for updates along its preconditioned gradient.
    """
    figures: Audit = {}
    for name, gradient in (("kept", kept), ("random", random)):
        descent, norm = inner(held_out, gradient, scales), length(gradient, scales)
        figures[f"{kind}_{name}"] = descent
        figures[f"{kind}_{name}_at_equal_length"] = descent / norm if norm else 0.0
    kept_share = keep_ratio * figures[f"{kind}_kept"]
    figures[f"{kind}_dropped"] = (figures[f"{kind}_random"] - kept_share) / (1 - keep_ratio)
    return figures


def audit_metrics(audits: Sequence[Audit]) -> dict[str, float]:
    """Log entries of the audits since the last log line: means, and ratios of means.

    ``descent_ratio`` is per second: kept rows over random ones, where kept rows take scoring
    besides. A ratio is left out where random rows brought nothing, or less.
    """
    mean: Audit = {}
    for name in NAMES:
        values = [audit[name] for audit in audits if name in audit]
        if values:
            mean[name] = math.fsum(values) / len(values)
    logged = {name: mean[name] for name in mean if "_equal_length" not in name}
    logged = {name: value for name, value in logged.items() if not name.endswith("_dropped")}
    if 1 <= mean.get("rho_2", 0.0) <= 2:
        logged["sigma_max"] = theory.sigma_max(mean["rho_2"])
    share = mean.get("scoring_share", 0.0)
    if "scoring_share" in mean:
        logged["break_even"] = share / (1 + share)
    for kind in (PLAIN, ADAM):
        for above, below, entry, dearer in (
            ("kept", "random", "ratio", 1 + share),
            (*_UPDATES[3:], "ratio_at_equal_length", 1 + share),
            ("dropped", "random", "dropped_ratio", 1.0),
        ):
            if mean.get(f"{kind}_{below}", 0.0) > 0:
                ratio = mean[f"{kind}_{above}"] / mean[f"{kind}_{below}"]
                logged[f"{kind}_{entry}"] = ratio / dearer
    return {f"sift_audit/{name}": value for name, value in logged.items()}


def _attempt(work: Callable[[], float]) -> float | None:
    """None where the figure has no meaning, as of losses that are all 0."""
    try:
        return work()
    except ValueError:
        return None
