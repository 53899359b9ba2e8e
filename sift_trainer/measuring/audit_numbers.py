"""The numbers of one audit, and the entries of a log line. Pure functions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sift_trainer.measuring import theory
from sift_trainer.measuring.agreement import comparable, compare_with_losses, overlap, spearman
from sift_trainer.measuring.gradients import Gradient, descent_of, dropped_descent

Audit = dict[str, float]  # name -> number; one that is undefined for the batch is missing
PLAIN, ADAM = "descent", "adam_descent"  # by updates along the gradient, and by AdamW's


def choice_numbers(
    losses: Tensor, scores: Tensor, kept: Tensor, exact: Tensor, approximates_loss: bool
) -> Audit:
    """How scores (B,), and the row numbers (k,) that they keep, agree with exact losses (B,) and
    the ``exact`` row numbers (k,) that those would keep; all on the CPU."""
    both = comparable(losses, scores)
    is_kept = torch.zeros(len(losses), dtype=torch.bool).index_fill(0, kept, True)
    found = compare_with_losses(losses[both], scores[both], approximates_loss)
    numbers = {
        "overlap": overlap(kept, exact),
        "spearman": spearman(losses[both], scores[both]),
        "agreement": None if found.order is None else found.order.share,
        "sigma": None if found.noise is None else found.noise.sigma,
        "rho_2": found.loss_ratio,
        "rho_2_approx": found.approximate_loss_ratio,
        "kept_loss": float(losses[is_kept & both].mean()),
        "dropped_loss": float(losses[~is_kept & both].mean()),
    }
    return {name: value for name, value in numbers.items() if value is not None}


def update_numbers(
    kind: str,
    held_out: Gradient,
    kept: Gradient,
    random: Gradient,
    keep_ratio: float,
    scales: Sequence[Tensor] | None = None,
) -> Audit:
    """By how much the held-out loss falls per unit of the learning rate, to first order.

    ``kind`` is `PLAIN`, or `ADAM` with AdamW's scales, and the first part of the names.
    """
    by_kept, by_random = (descent_of(held_out, each, scales) for each in (kept, random))
    return {
        f"{kind}_kept": by_kept.plain,
        f"{kind}_random": by_random.plain,
        f"{kind}_dropped": dropped_descent(by_kept.plain, by_random.plain, keep_ratio),
        f"{kind}_kept_at_equal_length": by_kept.at_equal_length,
        f"{kind}_random_at_equal_length": by_random.at_equal_length,
    }


def mean_audit(audits: Sequence[Audit]) -> Audit:
    """Mean of each number over the audits that have it. Numbers that are not finite are dropped."""
    values: dict[str, list[float]] = {}
    for audit in audits:
        for name, value in audit.items():
            if math.isfinite(value):
                values.setdefault(name, []).append(value)
    return {name: math.fsum(each) / len(each) for name, each in values.items()}


def audit_metrics(audits: Sequence[Audit]) -> dict[str, float]:
    """Entries of a log line: means over the audits since the last one, and ratios of means.

    The ratios of kept to random rows are per second: a step on kept rows also takes scoring. A
    ratio is missing if random rows brought nothing, or less.
    """
    mean = mean_audit(audits)
    hidden = "_equal_length", "_dropped"
    logged = {name: value for name, value in mean.items() if not name.endswith(hidden)}
    if 1 <= mean.get("rho_2", 0.0) <= 2:
        logged["sigma_max"] = theory.sigma_max(mean["rho_2"])
    share = mean.get("scoring_share", 0.0)
    if "scoring_share" in mean:
        logged["break_even"] = share / (1 + share)
    for kind in (PLAIN, ADAM):
        for above, below, entry, price in (
            ("kept", "random", "ratio", 1 + share),
            ("kept_at_equal_length", "random_at_equal_length", "ratio_at_equal_length", 1 + share),
            ("dropped", "random", "dropped_ratio", 1.0),
        ):
            if mean.get(f"{kind}_{below}", 0.0) > 0:
                ratio = mean[f"{kind}_{above}"] / mean[f"{kind}_{below}"]
                logged[f"{kind}_{entry}"] = ratio / price
    return {f"sift_audit/{name}": value for name, value in logged.items()}
