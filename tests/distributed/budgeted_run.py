"""Two processes under a time budget whose clocks disagree: ``budgeted_run.py FOLDER``."""

import json
import os
import sys
import time
from pathlib import Path

from sift_trainer import OneCycleMixin, SiftTrainer, TimeBudget
from tests.distributed.launch import leave
from tests.test_one_cycle import Rates
from tests.training import Rows, arguments, bert

BUDGET = 4.5  # of the first process, a step of which takes 1 second; the other's clock stands still


class Working(OneCycleMixin, SiftTrainer):
    now = 0.0

    def compute_loss(self, *args, **kwargs):
        if self.args.process_index == 0:
            Working.now += 1
        return super().compute_loss(*args, **kwargs)


def main(folder: Path) -> None:
    time.perf_counter = lambda: Working.now
    rates = Rates()
    args = arguments(folder, max_steps=20, lr_scheduler_type="linear")
    trainer = Working(bert(), args, train_dataset=Rows(76), callbacks=[rates])
    budget = TimeBudget(trainer, BUDGET)
    trainer.add_callback(budget)
    trainer.train()
    report = {
        "wrapped in": type(trainer.model_wrapped).__name__,
        "step": trainer.state.global_step,
        "stopped": budget.stopped,
        "own seconds": sum(trainer.sift_callback.timer.totals.values()),
        "rates": rates.found,
    }
    (folder / f"report.{os.environ['RANK']}.json").write_text(json.dumps(report))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
