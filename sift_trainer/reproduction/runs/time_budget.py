"""Runs of the same training time, as in Tables 2 and 4 of the paper."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from transformers import TrainerCallback, TrainingArguments
from transformers.utils import logging

from sift_trainer.arguments import sift_arguments
from sift_trainer.measuring.machine import SPEED, machine
from sift_trainer.measuring.timing import PHASES
from sift_trainer.processes.host_group import HostGroup
from sift_trainer.reproduction.run_log import read_run_log, read_starts

if TYPE_CHECKING:
    from sift_trainer.trainer import SiftMixin

logger = logging.get_logger(__name__)


class TimeBudget(TrainerCallback):
    """Ends a run, and its learning rate schedule, when its training seconds are spent:

    ``trainer.add_callback(TimeBudget(trainer, 3600))`` or ``TimeBudget(trainer, baseline_folder)``

    Training seconds are the phases that `SiftCallback` measures on the first process. Evaluation
    and checkpoints do not count; the seconds before a resume do. The step that reaches the budget
    is the last one, on all processes.

    After each step the schedule, which is laid out over ``max_steps``, moves to the share that is
    spent, of the budget or of ``max_steps``, whichever is larger. So learning rates and weights
    depend on the clock, and two runs with one seed differ.

    The paper ran SIFT "till the time it takes to run 100 epochs of the baseline" (Table 2).

    Args:
        trainer: the trainer that gets this callback.
        seconds: the budget, or the ``output_dir`` of a baseline with a `RunLog`, for the seconds
            that it took.

    Attributes:
        stopped: whether it ended the last training.

    Raises:
        ValueError: for a budget that is not positive; for a baseline without a log, unfinished, or
            of another machine; when training begins, for a schedule that cannot follow the time and
            for ``sift_cooldown_steps``.
    """

    def __init__(self, trainer: "SiftMixin", seconds: float | str | Path) -> None:
        if isinstance(seconds, (str, Path)):
            seconds = training_seconds(seconds)
        if not 0 < seconds < math.inf:
            raise ValueError(f"seconds={seconds} must be a positive number, such as 3600")
        self.seconds = float(seconds)
        self.stopped = False
        self._trainer = trainer
        self._processes = HostGroup()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        scheduler = kwargs["lr_scheduler"]
        # Other schedules compute a rate from the previous one, so they cannot jump.
        if not isinstance(scheduler, (LambdaLR, OneCycleLR)):
            raise ValueError(
                f"the schedule is a {type(scheduler).__name__}, which cannot "
                "follow the time; use OneCycleMixin, or lr_scheduler_type='linear'"
            )
        check_cooldown(args)
        self.stopped = False
        self._processes.open(args.world_size)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        spent = self._processes.of_first(self._trainer.sift_callback.seconds() / self.seconds)
        share = max(spent, state.global_step / state.max_steps)
        scheduler = kwargs["lr_scheduler"]
        # This comes after the Trainer's own step of the schedule.
        scheduler.last_epoch = min(share * state.max_steps, state.max_steps - 1) - 1
        scheduler.step()
        if spent >= 1:
            self.stopped = True
            control.should_training_stop = control.should_log = True
            if args.eval_strategy == "steps" and args.eval_delay <= state.global_step:
                control.should_evaluate = True
            if args.save_strategy == "steps":
                control.should_save = True
        elif state.global_step >= state.max_steps:
            logger.warning(
                f"the run ends at max_steps={state.max_steps} after {spent:.1%} of its "
                f"{self.seconds:g} seconds; raise max_steps to use all of them"
            )

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._processes.close()


def check_cooldown(args: TrainingArguments) -> None:
    """Refuse ``sift_cooldown_steps``, which needs a known last step, with a `ValueError`."""
    cooldown = sift_arguments(args).sift_cooldown_steps
    if cooldown:
        raise ValueError(
            f"sift_cooldown_steps={cooldown:.12g} counts back from max_steps={args.max_steps}, but "
            "a time budget ends the run earlier; use 0"
        )


def training_seconds(folder: str | Path) -> float:
    """Training seconds of a finished run, from the log in its ``output_dir``.

    Raises:
        ValueError: if there is no log, the run is unfinished, or it was on a machine of another
            speed than this one.
    """
    lines = read_run_log(folder)
    ends = [line for line in lines if "train_runtime" in line and "sift/forward_hours" in line]
    last = max((line["step"] for line in lines), default=0)
    if not ends or ends[-1]["step"] != last or last < ends[-1].get("max_steps", 0):
        raise ValueError(
            f"the run in seconds={str(folder)!r} is unfinished: its log ends at step {last}; "
            "finish it, or give a number of seconds"
        )
    here = machine()
    for there in (start["machine"] for start in read_starts(folder)):
        for name in SPEED:
            if there.get(name, here[name]) != here[name]:
                raise ValueError(
                    f"the run in seconds={str(folder)!r} was on a machine with {name}="
                    f"{there[name]!r}, and this one has {here[name]!r}, so seconds do not compare; "
                    "train the baseline here, or give a number of seconds"
                )
    return float(sum(ends[-1][f"sift/{phase}_hours"] for phase in PHASES)) * 3600
