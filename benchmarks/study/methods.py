"""The methods of `time_to_accuracy.py`, as sift fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from study.variants import OverExitZero, OverLastSeen

LATE = {"sift_keep_ratio": 0.5, "sift_warmup_steps": 0.25, "sift_cooldown_steps": 0.1}

EARLY = {"sift_keep_ratio": 0.5, "sift_warmup_steps": 0.025, "sift_cooldown_steps": 0.0}


@dataclass(frozen=True)
class Method:
    """A way to choose what is trained on.

    Attributes:
        told: in a few words.
        sift: its fields; ``sift_keep_ratio`` is always among them.
        mixin: what it changes in a trainer beside these.
        scorings: of a sifted step; each is charged what one at the exit takes.
    """

    told: str
    sift: Mapping[str, Any]
    mixin: type | None = None
    scorings: int = 1


AXES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "start_2": ("from 2.5% of the run", {"sift_warmup_steps": 0.025}),
    "start_50": ("from 50%", {"sift_warmup_steps": 0.5}),
    "start_75": ("from 75%", {"sift_warmup_steps": 0.75}),
    "cooldown_0": ("to the end", {"sift_cooldown_steps": 0.0}),
    "cooldown_25": ("to 75% of the run", {"sift_cooldown_steps": 0.25}),
    "interval_2": ("every second step", {"sift_interval": 2}),
    "keep_75": ("three quarters kept", {"sift_keep_ratio": 0.75}),
    "keep_25": ("a quarter kept", {"sift_keep_ratio": 0.25}),
    "exit_2": ("at exit 2", {"sift_exit_layer": 2}),
    "exit_3": ("at exit 3", {"sift_exit_layer": 3}),
    "exact": ("by the whole model", {"sift_exit_layer": -1}),
    "mixed": ("half of the kept rows at random", {"sift_random_share": 0.5}),
    "soft": ("drawn by percentiles", {"sift_selector": "percentile"}),
    "skip": ("a tenth left out at the top", {"sift_skip_top": 0.1}),
    "excess": ("less its surprisal by frequency alone", {"sift_criterion": "excess_unigram"}),
}
"""What is changed of a usual way to sift, one at a time."""


_GATE = {"sift_gate": "descent", "sift_audit_steps": 100}

METHODS: dict[str, Method] = {
    "vanilla": Method("no sifting", {"sift_keep_ratio": 1.0}),
    "random": Method("half of the candidates at random", {**LATE, "sift_criterion": "random"}),
    "loss": Method("loss at exit 1, from 25% to 90% of the run", LATE),
    "entropy": Method("entropy at exit 1", {**LATE, "sift_criterion": "entropy"}),
    "exact": Method("loss of the whole model", {**LATE, "sift_exit_layer": -1}),
    "loss_early": Method(
        "loss at exit 1, from 2.5% to the end (the paper's)",
        EARLY,
    ),
    "entropy_quarter_early": Method(
        "entropy at exit 1 of a quarter of the word pieces, from 2.5% to the end",
        {
            **EARLY,
            "sift_criterion": "entropy",
            "sift_token_fraction": 0.25,
        },
    ),
    "loss_half": Method(
        "loss at exit 1, from 50% to 75%",
        {**LATE, "sift_warmup_steps": 0.5, "sift_cooldown_steps": 0.25},
    ),
    "loss_quarter": Method(
        "loss at exit 1 of a quarter of the word pieces", {**LATE, "sift_token_fraction": 0.25}
    ),
    "loss_over_last_seen": Method("loss less its value when last seen", LATE, OverLastSeen),
    "loss_quarter_over_exit_zero": Method(
        "loss less its value at exit 0, of a quarter of the word pieces",
        {**LATE, "sift_token_fraction": 0.25},
        OverExitZero,
        scorings=2,
    ),
    "loss_gate": Method(
        "loss at exit 1 while audits every 100 steps say that it pays",
        {**LATE, **_GATE, "sift_held_out": "candidates"},
    ),
    "loss_gate_evaluation": Method(
        "the same, audits towards validation rows",
        {**LATE, **_GATE, "sift_held_out": "evaluation"},
    ),
    "loss_quarter_gate_evaluation": Method(
        "the same, by a quarter of the word pieces",
        {**LATE, **_GATE, "sift_held_out": "evaluation", "sift_token_fraction": 0.25},
    ),
}
METHODS |= {
    f"{base}_{axis}": Method(f"{METHODS[base].told}; {told}", {**METHODS[base].sift, **changes})
    for base in ("loss", "loss_quarter", "entropy_quarter_early")
    for axis, (told, changes) in AXES.items()
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
