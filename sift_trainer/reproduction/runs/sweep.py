"""The runs of a configuration, each in processes of its own, shared by all who start the sweep.

Each sweep takes the next run that nobody has locked. So a job array is the same command started
several times, and an interrupted sweep is started again.
"""

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, NamedTuple

from transformers.utils import logging

from sift_trainer.reproduction.configuration import parse_config
from sift_trainer.reproduction.runs.training import Experiment, is_finished

logger = logging.get_logger(__name__)

_STOP = (signal.SIGTERM, signal.SIGINT)


class Planned(NamedTuple):
    """A run of the sweep; ``after`` is one that must be finished before, if any."""

    name: str
    folder: Path
    max_steps: int
    after: "Planned | None"

    @property
    def lock(self) -> Path:
        return self.folder / ".lock"

    def is_finished(self) -> bool:
        return is_finished(self.folder, self.max_steps)

    def waits(self) -> bool:
        return self.after is not None and not self.after.is_finished()


def plan(experiment: Experiment, argv: Sequence[str]) -> list[Planned]:
    """The runs of a checked configuration; raises `ConfigError` as training would."""
    # On the CPU, so that this process occupies no GPU.
    config = parse_config(experiment.kinds, [*argv, "--use_cpu", "true"])
    experiment.check(config)
    output = Path(str(experiment.settings(*config.instances).args.output_dir))
    planned: dict[str, Planned] = {}
    for name, instances in config.runs.items():
        settings = experiment.settings(*instances)
        after = experiment.waits_for(name, settings)
        # `check` made sure that a run which `--runs` leaves out is finished.
        earlier = planned.get(after) if after is not None else None
        planned[name] = Planned(name, output / name, settings.args.max_steps, earlier)
    return list(planned.values())


def sweep(runs: Sequence[Planned], command: Sequence[str]) -> dict[str, int]:
    """Train the unfinished runs that nobody else trains, one after another.

    A run that ends with an error is left, and the others go on. SIGTERM and SIGINT are passed on:
    the current run saves a checkpoint, and the sweep ends. A second signal kills the run.

    Args:
        command: trains one run, whose name is its last argument.

    Returns:
        Name -> exit status of the runs that failed.
    """
    failed: dict[str, int] = {}
    with _Processes() as processes:

        def train(run: Planned) -> bool:
            """Whether anything was trained."""
            if run.name in failed or processes.stopped or run.is_finished() or run.waits():
                return False
            run.folder.mkdir(parents=True, exist_ok=True)
            with held(run.lock) as lock:
                if lock is None or run.is_finished():
                    return False
                logger.warning(f"training {run.name} in {run.folder}")
                status = processes.run([*command, run.name], lock)
            if not run.is_finished() and not processes.stopped:
                logger.warning(f"{run.name} ended with status {status} and is not finished")
                failed[run.name] = status
            return True

        while any([train(run) for run in runs]):  # another round, for runs that waited
            pass
    return failed


@contextmanager
def held(path: Path) -> Iterator[IO[str] | None]:
    """The file, locked; None if another process has locked it.

    Processes that inherit the file hold the lock too. (A lock of `filelock` is not inherited.)
    """
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file


class _Processes:
    """Runs commands, and passes a signal on to them, as SIGTERM and the second time as SIGKILL."""

    def __init__(self) -> None:
        self.stopped = False
        self._group: int | None = None

    def __enter__(self) -> "_Processes":
        self._previous = {number: signal.signal(number, self._pass_on) for number in _STOP}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def run(self, command: Sequence[str], lock: IO[str]) -> int:
        """The exit status of the command, after all processes that it started have ended.

        The lock becomes the standard input of the command, the one file that launchers leave open
        for what they start. So it stays locked even if this process is killed.
        """
        child = subprocess.Popen(command, stdin=lock, start_new_session=True)
        self._group = child.pid
        if self.stopped:  # a signal came before there was a process to pass it to
            self._send(signal.SIGTERM)
        status = child.wait()
        # On a signal a launcher ends before the training that it started.
        lock.close()
        with open(lock.name) as same:
            fcntl.flock(same, fcntl.LOCK_EX)
        self._group = None
        return status

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._send(signal.SIGKILL if self.stopped else signal.SIGTERM)
        self.stopped = True

    def _send(self, number: int) -> None:
        if self._group is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._group, number)
