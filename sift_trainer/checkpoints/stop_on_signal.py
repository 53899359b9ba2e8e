"""Stopping a run on a signal, at the end of a step and with a checkpoint."""

import signal
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from sift_trainer.processes.host_group import HostGroup

logger = logging.get_logger(__name__)


class StopOnSignal(TrainerCallback):
    """Saves a checkpoint and ends training after the step in which a signal arrives.

    All processes stop at the same step. An evaluation that is due at it is left out, because
    schedulers wait only for seconds. The previous signal handlers are restored when training ends.
    After a training that failed, `release` restores them; `WholeCheckpoints` calls it.

    Args:
        signals: signal numbers, such as ``signal.SIGUSR1`` for a scheduler's warning.

    Attributes:
        stopped: whether a signal to any process ended the last training.
    """

    def __init__(self, signals: Sequence[int] = (signal.SIGTERM,)) -> None:
        self.signals = tuple(signals)
        self.stopped = False
        self._received = False
        self._previous: dict[int, Any] = {}
        self._processes = HostGroup()
        self._limit: tuple[TrainingArguments, int | None] | None = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._received = True

    def release(self) -> None:
        """Restore the signal handlers and arguments from before training."""
        self._shield(False)
        for number, previous in self._previous.items():
            # Keep a handler that somebody else has installed or restored in the meantime.
            if signal.getsignal(number) == self._handle:
                signal.signal(number, signal.SIG_DFL if previous is None else previous)
        self._previous = {}
        if self._limit is not None:
            args, limit = self._limit
            args.save_total_limit = limit
            self._limit = None
        self._processes.close()

    def _shield(self, on: bool) -> None:
        """Make child processes that start from now on ignore the signals, or stop doing so.

        Launchers signal a whole session, so that the workers of the data loader would die. They
        inherit the signals that this thread blocks.
        """
        if self._previous and hasattr(signal, "pthread_sigmask"):
            how = signal.SIG_BLOCK if on else signal.SIG_UNBLOCK
            signal.pthread_sigmask(how, self.signals)

    def on_train_begin(self, args: TrainingArguments, *event: Any, **kwargs: Any) -> None:
        self.release()
        self.stopped = self._received = False
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                self._previous[number] = signal.signal(number, self._handle)
        else:
            logger.warning(
                "StopOnSignal works in the main thread only, where Python handles signals; "
                "a signal ends this process without a checkpoint"
            )
        self._processes.open(args.world_size)

    def on_epoch_begin(self, *event: Any, **kwargs: Any) -> None:
        self._shield(True)  # the first batch starts the workers of the data loader

    def on_step_begin(self, *event: Any, **kwargs: Any) -> None:
        self._shield(False)

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._processes.any(self._received):
            self.stopped = True
            logger.warning(f"stopping after step {state.global_step} because of a signal")
            control.should_training_stop = control.should_save = control.should_log = True
            control.should_evaluate = False
        self._shield(control.should_evaluate)  # the evaluation's data loader has workers too

    def on_epoch_end(
        self, args: TrainingArguments, state: Any, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.stopped:  # the step has saved a checkpoint
            control.should_save = control.should_evaluate = False
            # With a limit of 1, the Trainer would end by deleting all but the best checkpoint.
            self._limit = (args, args.save_total_limit)
            args.save_total_limit = None
        self._shield(control.should_evaluate)

    def on_train_end(self, *event: Any, **kwargs: Any) -> None:
        self.release()
