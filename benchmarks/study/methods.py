"""The methods of `time_to_accuracy.py`, as sift fields."""

from collections.abc import Mapping
from typing import Any

Fields = Mapping[str, Any]

_HALF = {"sift_criterion": "loss", "sift_keep_ratio": 0.5, "sift_selector": "top_k"}
LATE: Fields = {**_HALF, "sift_warmup_steps": 0.25, "sift_cooldown_steps": 0.1}
EARLY: Fields = {**_HALF, "sift_warmup_steps": 0.025, "sift_cooldown_steps": 0.0}
QUARTER: Fields = {"sift_token_fraction": 0.25}
_GATE = {"sift_gate": "descent", "sift_audit_steps": 100}
GATE_FIELDS = {*_GATE, "sift_held_out"}

CHANGES: dict[str, Fields] = {
    "start_2": {"sift_warmup_steps": 0.025},
    "start_50": {"sift_warmup_steps": 0.5},
    "start_75": {"sift_warmup_steps": 0.75},
    "cooldown_0": {"sift_cooldown_steps": 0.0},
    "cooldown_25": {"sift_cooldown_steps": 0.25},
    "interval_2": {"sift_interval": 2},
    "keep_75": {"sift_keep_ratio": 0.75},
    "keep_25": {"sift_keep_ratio": 0.25},
    "exit_2": {"sift_exit_layer": 2},
    "exit_3": {"sift_exit_layer": 3},
    "exact": {"sift_exit_layer": -1},
    "mixed": {"sift_selector": "mixed"},
    "soft": {"sift_selector": "percentile"},
    "skip": {"sift_skip_top": 0.1},
}
"""What is changed in a usual way to sift, one field at a time."""

METHODS: dict[str, Fields] = {
    "vanilla": {"sift_keep_ratio": 1.0},
    "random": {**LATE, "sift_criterion": "random"},
    "loss": LATE,
    "entropy": {**LATE, "sift_criterion": "entropy"},
    "exact": {**LATE, "sift_exit_layer": -1},
    "loss_early": EARLY,
    "entropy_quarter_early": {**EARLY, **QUARTER, "sift_criterion": "entropy"},
    "loss_quarter": {**LATE, **QUARTER},
    "loss_gate": {**LATE, **_GATE, "sift_held_out": "candidates"},
    "loss_gate_evaluation": {**LATE, **_GATE, "sift_held_out": "evaluation"},
    "loss_quarter_gate_evaluation": {
        **LATE,
        **QUARTER,
        **_GATE,
        "sift_held_out": "evaluation",
    },
}
METHODS |= {
    f"{base}_{name}": {**METHODS[base], **change}
    for base in ("loss", "loss_quarter", "entropy_quarter_early")
    for name, change in CHANGES.items()
}
NOT_BUILT = "loss_over_last_seen", "loss_quarter_excess", "loss_quarter_over_exit_zero"
"""Methods with results that had code of their own, at commit d749361."""


def scored_by(sift: Fields) -> dict[str, Any] | None:
    """What the cost of a method's scoring depends on; None without scoring."""
    criterion = sift.get("sift_criterion", "loss")
    if sift["sift_keep_ratio"] == 1 or criterion == "random":
        return None
    return {
        "criterion": criterion,
        "exit_layer": sift.get("sift_exit_layer", 1),
        "keep_ratio": sift["sift_keep_ratio"],
        "token_fraction": sift.get("sift_token_fraction", 1.0),
    }
