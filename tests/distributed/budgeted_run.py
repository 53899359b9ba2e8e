"""A run under a time budget, in processes whose clocks disagree."""

import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sift_trainer import SiftTrainer
from sift_trainer.reproduction.runs.time_budget import TimeBudget
from tests.training import Rows, arguments, bert

BUDGET = 4.5  # of the first process, a step of which takes 1 second; the other's clock stands still


class Working(SiftTrainer):
    now = 0.0

    def compute_loss(self, *args, **kwargs):
        if self.args.process_index == 0:
            Working.now += 1
        return super().compute_loss(*args, **kwargs)


def train(folder: Path) -> dict[str, Any]:
    """Train; what this process did."""
    args = arguments(folder, max_steps=20, lr_scheduler_type="linear")
    trainer = Working(bert(), args, train_dataset=Rows(76))
    budget = TimeBudget(trainer, BUDGET)
    trainer.add_callback(budget)
    with patch.object(time, "perf_counter", lambda: Working.now):
        trainer.train()
    return {
        "world_size": args.world_size,
        "wrapped_in": [cls.__name__ for cls in type(trainer.model_wrapped).__mro__],
        "step": trainer.state.global_step,
        "stopped": budget.stopped,
        "own seconds": sum(trainer.sift_callback.timer.totals.values()),
    }
