"""One command at a time with all processes that it starts, under a lock, stopped by signals."""

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

_STOP = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def held(path: Path) -> Iterator[IO[str] | None]:
    """The file, locked; None if another process has locked it.

    Processes that inherit the open file hold the lock too, until the last of them has ended in
    whatever way. (A lock of `filelock` cannot be inherited.)
    """
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file


class JobProcesses:
    """Runs commands, and passes on to them the signals that would end this process:

    ``with JobProcesses() as processes: processes.run(["python", "train.py"], lock)``

    The commands get a SIGTERM for the first SIGTERM or SIGINT, and a SIGKILL for the second.

    Attributes:
        stopped: whether there was a signal.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._group: int | None = None

    def __enter__(self) -> "JobProcesses":
        self._previous = {number: signal.signal(number, self._pass_on) for number in _STOP}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def run(self, command: Sequence[str], lock: IO[str]) -> int:
        """The exit status of the command, after all processes that it started have ended.

        Args:
            lock: a file of `held`. It becomes the standard input of the command, the one file that
                launchers leave open for what they start, so it stays locked even if this process is
                killed. It is closed and unlocked afterwards.
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
