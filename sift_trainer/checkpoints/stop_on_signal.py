"""Stopping a run at the end of a step, with a checkpoint, when a scheduler asks for it."""

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
    """At the end of the step in which a signal arrives, saves a checkpoint and ends training.

    ``train()`` then returns as it does after the last step; `stopped` tells the two apart. The
    evaluation that would be due at that step is left out, since a scheduler waits for seconds only.
    The previous handlers are put back when training ends.

    All processes stop at the same step: at the end of each they agree by an all-reduce of one
    number, on the CPU and over gloo, so that no process waits for its device.

    It replaces ``enable_jit_checkpoint`` of Transformers, whose handler stands back while this one
    is installed. That one saves between forward and update too, where the random state is past the
    one of the step that is repeated, and each process decides by itself, so that one may save
    while the others wait for its gradient.

    Args:
        signals: numbers of the signals, such as ``signal.SIGUSR1`` for a scheduler's warning.

    Attributes:
        stopped: whether the last training was ended by a signal to any of the processes.
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
        """Put back what was there before training; harmless if that has been done."""
        self._shield(False)
        for number, previous in self._previous.items():
            # Not over a handler that somebody else has installed or restored meanwhile.
            if signal.getsignal(number) == self._handle:
                signal.signal(number, signal.SIG_DFL if previous is None else previous)
        self._previous = {}
        if self._limit is not None:
            args, limit = self._limit
            args.save_total_limit = limit
            self._limit = None
        self._processes.close()

    def _shield(self, on: bool) -> None:
        """Have the processes that are started from now on ignore the signals, or no longer.

        Launchers and schedulers signal a whole session: without this the loader's workers die, and
        the run with them, before it has saved. They inherit the blocked signals of this thread.
        """
        if self._previous and hasattr(signal, "pthread_sigmask"):
            how = signal.SIG_BLOCK if on else signal.SIG_UNBLOCK
            signal.pthread_sigmask(how, self.signals)

    # ---- events ----

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        self.release()
        self.stopped = self._received = False
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                self._previous[number] = signal.signal(number, self._handle)
        else:
            logger.warning(
                "StopOnSignal: Python handles signals in the main thread only, which "
                "this is not; a signal ends this process without a checkpoint"
            )
        self._processes.open(args.world_size)

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        self._shield(True)  # the first batch starts the loader's workers

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        self._shield(False)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        if self._processes.any(self._received):
            self.stopped = True
            logger.warning(f"stopping after step {state.global_step}, as a signal asks for it")
            control.should_training_stop = control.should_save = control.should_log = True
            control.should_evaluate = False
        self._shield(control.should_evaluate)  # its loader has workers too

    def on_epoch_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        if self.stopped:  # saved already, at the end of the step
            control.should_save = control.should_evaluate = False
            # Else, at a limit of 1, the Trainer ends by deleting all but the best checkpoint.
            self._limit = (args, args.save_total_limit)
            args.save_total_limit = None
        self._shield(control.should_evaluate)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        self.release()
