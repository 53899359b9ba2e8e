"""Runs of the same training time, as in Tables 2 and 4 of the paper."""

import math
from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from sift_trainer.arguments import sift_arguments
from sift_trainer.measuring.timing import PHASES
from sift_trainer.processes.host_group import HostGroup
from sift_trainer.run_log import SPEED, machine, read_machines, read_run_log
from sift_trainer.trainer import SiftMixin

logger = logging.get_logger(__name__)


class TimeBudget(TrainerCallback):
    """Ends a run when its training seconds are spent, and its learning rate schedule with them:

    ``trainer.add_callback(TimeBudget(trainer, 3600))`` or ``TimeBudget(trainer, baseline_folder)``

    Training seconds are the phases that `SiftCallback` measures on the first process: data,
    sampling, forward, backward and optimizer, resumed runs included, without evaluation and
    checkpoints. The step in which they reach the budget is the last one, on all processes.
    It is logged, and by ``eval_strategy`` and ``save_strategy`` evaluated and saved, as a last step
    is.

    ``max_steps`` (or ``num_train_epochs``) is the most that the run may take, and what the schedule
    is laid out over. At the end of each step the schedule is put where the run is: at the share
    spent of the budget or of ``max_steps``, whichever is larger. So it comes to its end with the
    run in either case, and where the budget is just enough for ``max_steps`` it is the usual one.

    The other way to such an end would be to fix the number of steps beforehand, from the seconds of
    a few. That run could be repeated bit for bit, but would miss the budget by as much as those few
    steps mislead. Here the seconds hold to within a step; in exchange learning rates, and so
    weights, depend on the clock: two runs of one seed differ. A resumed run goes on from the
    seconds, the rate and the weights of its checkpoint, and with another budget its rate jumps;
    one whose budget is spent takes no further step.

    The paper ran SIFT "till the time it takes to run 100 epochs of the baseline" (caption of Table
    2); whether its one-cycle schedule came to its end by then, it does not say.

    On an accelerator nothing waits for the device: seconds are those of the work that it has
    finished when the host looks, so that the run ends later by what the host is ahead.

    Args:
        trainer: the one whose callback this will be.
        seconds: the budget; or the ``output_dir`` of a baseline whose `RunLog` is there: what that
            run took.

    Attributes:
        seconds: the budget.
        stopped: whether the last training was ended by it.

    Raises:
        TypeError: for a trainer that does not sift, and so measures nothing.
        ValueError: for a budget that is not positive, or a baseline without a log or an end or of
            another machine; when training begins, for a schedule that cannot follow the time and
            for ``sift_cooldown_steps``.
    """

    def __init__(self, trainer: SiftMixin, seconds: float | str | Path) -> None:
        if not isinstance(trainer, SiftMixin):
            raise TypeError(
                f"trainer is a {type(trainer).__name__}, which does not measure its phases; "
                "give a SiftTrainer, with sift_keep_ratio=1.0 if it is not to sift"
            )
        if isinstance(seconds, (str, Path)):
            seconds = training_seconds(seconds)
        if not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
            raise ValueError(
                f"seconds={seconds!r} must be a positive number of seconds, such as 3600, or the "
                "output_dir of a baseline"
            )
        self.seconds = float(seconds)
        self.stopped = False
        self._resumed = False
        self._trainer = trainer
        self._processes = HostGroup()

    def _spent(self) -> float:
        """Share of the budget, the same on every process."""
        return self._processes.of_first(self._trainer.sift_callback.seconds() / self.seconds)

    # ---- events ----

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        self._processes.close()  # a run that failed left it open
        self.stopped = False
        scheduler = kwargs["lr_scheduler"]
        # Others compute a rate from the one before it, and cannot be put anywhere.
        if not isinstance(scheduler, (LambdaLR, OneCycleLR)):
            raise ValueError(
                f"the schedule is a {type(scheduler).__name__}, which only goes step by step and "
                "cannot follow the time; use OneCycleMixin, or lr_scheduler_type='linear'"
            )
        check_cooldown(args)
        self._processes.open(args.world_size)
        self._resumed = state.global_step > 0

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        # Not when training begins: then SiftCallback may not have read its checkpoint yet.
        if self._resumed and self._spent() >= 1:
            logger.warning(
                f"the checkpoint has spent the budget of seconds={self.seconds:g} and is not "
                "trained further; give a larger budget to go on"
            )
            self.stopped = control.should_training_stop = True
        self._resumed = False

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        spent = self._spent()
        share = max(spent, state.global_step / state.max_steps)
        scheduler = kwargs["lr_scheduler"]
        # After the Trainer's own step of the schedule, when all phases have been measured.
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
                f"the run ends at max_steps={state.max_steps}, having spent {spent:.1%} of its "
                f"{self.seconds:g} seconds; raise max_steps for a run of the whole time"
            )

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        self._processes.close()


def check_cooldown(args: TrainingArguments) -> None:
    """Refuse what a run of a given time cannot have.

    Raises:
        ValueError: ``sift_cooldown_steps`` is set.
    """
    cooldown = sift_arguments(args).sift_cooldown_steps
    if cooldown:
        raise ValueError(
            f"sift_cooldown_steps={cooldown:.12g} are counted back from "
            f"max_steps={args.max_steps}, and a time budget ends the run before; use 0"
        )


def training_seconds(folder: str | Path) -> float:
    """Training seconds of a finished run, from the log in its ``output_dir``.

    Raises:
        ValueError: there is no log, the run did not come to its last step, or it was on another
            machine than this process, where its seconds mean nothing.
    """
    lines = read_run_log(folder)
    ends = [line for line in lines if "train_runtime" in line and "sift/forward_hours" in line]
    last = max((line["step"] for line in lines), default=0)
    if not ends or ends[-1]["step"] != last or last < ends[-1].get("max_steps", 0):
        raise ValueError(
            f"the run in seconds={str(folder)!r} is unfinished: its log ends at step {last} "
            "without the totals of a whole run; finish it, or give a number of seconds"
        )
    here = machine()
    for there in read_machines(folder):
        for name in SPEED:
            if there.get(name, here[name]) != here[name]:
                raise ValueError(
                    f"the run in seconds={str(folder)!r} was on a machine with {name}="
                    f"{there[name]!r}, and this one has {here[name]!r}: the same seconds are not "
                    "the same time on both. Train the baseline here, or give a number of seconds"
                )
    return float(sum(ends[-1][f"sift/{phase}_hours"] for phase in PHASES)) * 3600
