"""One command at a time, with all processes that it starts, under a lock and stopped by signals."""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

_STOP = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def held(path: Path) -> Iterator[int | None]:
    """A file descriptor that locks the file; None if another process does.

    The lock belongs to the descriptor: processes that inherit it hold it too, until the last one
    has ended, in whatever way. (A lock of `filelock` cannot be handed on.)
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


class JobProcesses:
    """Runs commands, and passes on to them the signals that would end this process:

    ``with JobProcesses() as processes: processes.run(["python", "train.py"], lock)``

    They get a SIGTERM, whether it was SIGTERM or SIGINT, and with the second signal a SIGKILL.

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

    def run(self, command: Sequence[str], lock: int) -> int:
        """Exit status of the command, when all processes that it started have ended.

        Args:
            lock: a descriptor for it to inherit, so that it is held until then even if this process
                is killed.
        """
        child = subprocess.Popen(command, pass_fds=[lock], start_new_session=True)
        self._group = child.pid
        if self.stopped:  # since before there was anyone to tell
            self._tell(signal.SIGTERM)
        status = child.wait()
        while _is_alive(child.pid):  # a launcher may end before the training that it started
            time.sleep(0.1)
        self._group = None
        return status

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._tell(signal.SIGKILL if self.stopped else signal.SIGTERM)
        self.stopped = True

    def _tell(self, number: int) -> None:
        if self._group is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._group, number)


def _is_alive(group: int) -> bool:
    """Whether a process of the group runs; those that nobody has waited for do not."""
    for process in psutil.process_iter(["status"]):
        with suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False
