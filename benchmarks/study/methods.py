"""The methods of `time_to_accuracy.py`, as sift fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LATE = {"sift_keep_ratio": 0.5, "sift_warmup_steps": 0.25, "sift_cooldown_steps": 0.1}


@dataclass(frozen=True)
class Method:
    """A way to choose what is trained on.

    Attributes:
        told: in a few words.
        sift: its fields; ``sift_keep_ratio`` is always among them.
    """

    told: str
    sift: Mapping[str, Any]


METHODS: dict[str, Method] = {
    "vanilla": Method("no sifting", {"sift_keep_ratio": 1.0}),
    "random": Method("half of the candidates at random", {**LATE, "sift_criterion": "random"}),
    "loss": Method("loss at exit 1, from 25% to 90% of the run", LATE),
    "entropy": Method("entropy at exit 1", {**LATE, "sift_criterion": "entropy"}),
    "loss_exit_2": Method("loss at exit 2", {**LATE, "sift_exit_layer": 2}),
    "exact": Method("loss of the whole model", {**LATE, "sift_exit_layer": -1}),
    "exact_interval_2": Method(
        "loss of the whole model, every second step",
        {**LATE, "sift_exit_layer": -1, "sift_interval": 2},
    ),
    "loss_early": Method(
        "loss at exit 1, from 2.5% to the end (the paper's)",
        {"sift_keep_ratio": 0.5, "sift_warmup_steps": 0.025},
    ),
    "entropy_early": Method(
        "entropy at exit 1, from 2.5% to the end (the paper's)",
        {"sift_keep_ratio": 0.5, "sift_warmup_steps": 0.025, "sift_criterion": "entropy"},
    ),
    "loss_half": Method(
        "loss at exit 1, from 50% to 75%",
        {**LATE, "sift_warmup_steps": 0.5, "sift_cooldown_steps": 0.25},
    ),
    "loss_interval_2": Method("loss at exit 1, every second step", {**LATE, "sift_interval": 2}),
    "loss_keep_25": Method("a quarter kept", {**LATE, "sift_keep_ratio": 0.25}),
    "loss_keep_75": Method("three quarters kept", {**LATE, "sift_keep_ratio": 0.75}),
    "loss_quarter": Method(
        "loss at exit 1 of a quarter of the word pieces", {**LATE, "sift_token_fraction": 0.25}
    ),
    "loss_quarter_early": Method(
        "the same from 2.5% to the end",
        {"sift_keep_ratio": 0.5, "sift_warmup_steps": 0.025, "sift_token_fraction": 0.25},
    ),
    "loss_gate": Method(
        "loss at exit 1 while audits every 20 steps say that it pays",
        {**LATE, "sift_gate": "descent", "sift_audit_steps": 20},
    ),
    "loss_gate_evaluation": Method(
        "the same, audits towards validation rows",
        {**LATE, "sift_gate": "descent", "sift_audit_steps": 20, "sift_held_out": "evaluation"},
    ),
    "loss_quarter_gate_evaluation": Method(
        "the same, by a quarter of the word pieces",
        {
            **LATE,
            "sift_gate": "descent",
            "sift_audit_steps": 20,
            "sift_held_out": "evaluation",
            "sift_token_fraction": 0.25,
        },
    ),
    "loss_skip": Method("a tenth left out at the top", {**LATE, "sift_skip_top": 0.1}),
}


def scored_by(sift: Mapping[str, Any]) -> dict[str, Any] | None:
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
