"""Scripts in processes of their own that need not import first, which takes longer than most of
what they do: forked from one process, which has imported and done nothing else."""

import multiprocessing
import os
import runpy
import sys
import time
from contextlib import suppress
from importlib import import_module
from multiprocessing import connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parents[1]
# The last one by Accelerate, when it prepares a model, if it is installed.
IMPORTED = ["sift_trainer", "transformers.models.bert.modeling_bert", "deepspeed"]


def import_all() -> None:
    """So that what is forked from here need not; what is not installed is left out."""
    for name in IMPORTED:
        with suppress(ImportError):
            import_module(name)


class Forked:
    """``python SCRIPT arguments``, begun.

    Args:
        script: relative to the checkout.
        environment: all of it; by default this process's. What is read by an import, such as where
            caches are, is that of the first process forked.
    """

    def __init__(
        self, script: str, *arguments: object, environment: dict[str, str] | None = None
    ) -> None:
        self._folder = TemporaryDirectory()  # is removed with this object
        self._out, self._error = (Path(self._folder.name) / name for name in ("out", "error"))
        for file in (self._out, self._error):
            file.touch()
        words = [script, *map(str, arguments)]
        given = dict(os.environ if environment is None else environment)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        target = (given, str(self._out), str(self._error), words)
        self._process: Any = context.Process(target=_run, args=target)
        with patch.dict(os.environ, PYTHONPATH=str(ROOT)):  # where the first one finds the package
            self._process.start()

    def send_signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Without effect on one that has ended."""
        self._process.kill()
        self._process.join()

    def result(self) -> tuple[int | None, str, str]:
        """Status so far (None: still running), output and errors."""
        out, error = (file.read_text(errors="replace") for file in (self._out, self._error))
        return self._process.exitcode, out, error

    def ended(self, timeout: float) -> tuple[int | None, str, str]:
        """`result` of its end, which comes within ``timeout`` seconds, or is brought about."""
        wait_for([self], timeout)
        status = self._process.exitcode
        self.kill()
        return (status, *self.result()[1:])


def wait_for(members: list[Forked], timeout: float) -> None:
    """Until all have ended well, or one has not, or ``timeout`` seconds have passed."""
    end = time.monotonic() + timeout
    left = {member._process.sentinel: member._process for member in members}
    while left and time.monotonic() < end:
        ended = [left.pop(each) for each in connection.wait(list(left), end - time.monotonic())]
        for process in ended:
            process.join()
        if any(process.exitcode for process in ended):
            return


def _run(environment: dict[str, str], out: str, error: str, words: list[str]) -> None:
    multiprocessing.set_start_method(None, force=True)  # of its own processes: the usual one
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in ((1, out), (2, error)):
        file = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.argv = words
    runpy.run_path(str(ROOT / words[0]), run_name="__main__")
