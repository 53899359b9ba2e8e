"""What scoring takes over forward and backward, by processor time, for `time_to_accuracy.py`."""

import time
from argparse import Namespace
from collections.abc import Mapping
from statistics import median
from typing import Any

import torch
from measured_steps import Arm, Stepper

from sift_trainer.measuring.timing import StepTimer
from study.data import StudyData
from study.kinds import KINDS, Regime

STEPS = 4  # of a turn


class ProcessorTimer(StepTimer):
    """Phases in seconds of this process's processor: other programs take no part of them."""

    def _mark(self, phase: str) -> float | torch.Event:
        return time.process_time() if self.device.type == "cpu" else super()._mark(phase)


def scoring_shares(
    regime: Regime, data: StudyData, choices: Mapping[str, Mapping[str, Any]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of scoring in a sifted step over those of forward and backward in a step of the same
    round that does not sift, of every round; all in turns, in one process, on the same weights.

    Args:
        choices: name -> sift fields.
    """
    model = KINDS[regime.kind].build(regime.model, data.classes)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    options = Namespace(device=device, bf16=False, batch_size=regime.batch_size)
    settings = {
        name: {**sift, "sift_warmup_steps": 0, "sift_cooldown_steps": 0}
        for name, sift in choices.items()
    }
    settings["plain"] = {"sift_keep_ratio": 1.0, **regime.plain}
    steppers = {
        name: Stepper(Arm(name, dict(sift)), model, optimizer, data.train, data.collator, options)
        for name, sift in settings.items()
    }
    for stepper in steppers.values():
        stepper.step()
    shares: dict[str, list[float]] = {name: [] for name in choices}
    for number in range(rounds):
        order = list(steppers)[:: -1 if number % 2 else 1]
        taken = {name: _phases(steppers[name]) for name in order}
        unit = taken["plain"]["forward"] + taken["plain"]["backward"]
        for name in choices:
            shares[name].append(taken[name]["sampling"] / unit)
    return shares


def described(shares: list[float]) -> dict[str, Any]:
    """Median and range over the rounds."""
    return {
        "share": median(shares),
        "share_range": [min(shares), max(shares)],
        "rounds": len(shares),
    }


def _phases(stepper: Stepper) -> dict[str, float]:
    timer = ProcessorTimer()
    timer.device = stepper.trainer.args.device
    stepper.trainer.sift_callback.timer = timer
    for _ in range(STEPS):
        stepper.step()
    return timer.interval()
