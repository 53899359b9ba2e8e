"""Processes that share a work, and keep out of each other's way."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import current_process, get_all_start_methods, get_context
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

logger = logging.getLogger(__name__)


def run_all(
    function: Callable[..., object],
    tasks: Sequence[tuple[Any, ...]],
    processes: int,
    stage: str,
    unit: str,
    progress: bool,
) -> None:
    """Calls `function` with every task, in this process or in several.

    Raises:
        RuntimeError: a process was killed.
    """
    bar = tqdm(total=len(tasks), desc=stage, unit=unit, disable=not progress)
    with bar:
        if min(processes, len(tasks)) < 2:
            for task in tasks:
                function(*task)
                bar.update()
            return
        # Forked from a server that has imported everything and started no thread.
        method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
        context = get_context(method)
        context.set_forkserver_preload([function.__module__])
        with one_thread(), ProcessPoolExecutor(min(processes, len(tasks)), context) as pool:
            running = [pool.submit(function, *task) for task in tasks]
            try:
                for done in as_completed(running):
                    done.result()
                    bar.update()
            except BrokenProcessPool as error:
                raise RuntimeError(
                    f"a process was killed while {stage}, perhaps for its memory; what is finished "
                    f"is kept: run the same again, with num_proc below {processes} if need be"
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def check_main_guard() -> None:
    """Refuse to go on while a worker imports the script that started it.

    Python does so itself when that starts a process (the same private flag tells), but here the
    worker would wait for the lock of its own parent first.
    """
    if getattr(current_process(), "_inheriting", False):
        raise RuntimeError(
            "prepare_corpus was called again by its own worker, which imports the script that "
            'calls it; write the call under if __name__ == "__main__":'
        )


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Within the context no other process does the same part of the work."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning(f"waiting for another process, which prepares the same in {path.parent}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def all_cores() -> AbstractContextManager[None]:
    """Lets `tokenizers` use every core, whatever TOKENIZERS_PARALLELISM says outside."""
    return _environment("TOKENIZERS_PARALLELISM", "true")


def one_thread() -> AbstractContextManager[None]:
    """Keeps `tokenizers` to one, in processes that share the cores."""
    return _environment("TOKENIZERS_PARALLELISM", "false")
