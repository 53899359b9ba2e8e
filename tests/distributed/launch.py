"""Start a script as several real processes on the CPU."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, NoReturn

from torch import distributed

ROOT = Path(__file__).parents[2]
LAUNCHER_SETS = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def leave() -> NoReturn:
    """End this process well, once all others have come here too.

    Past the interpreter's own end, in which threads of gloo now and then abort the process though
    its group is closed.
    """
    distributed.barrier()
    distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def start(script: str, *arguments: object, processes: int = 2) -> subprocess.Popen[str]:
    """Start ``script`` (relative to the checkout) in ``processes`` processes over gloo."""
    command = [
        *("torch.distributed.run", "--nproc_per_node", processes, "--master_port", free_port()),
        *("-m", script.removesuffix(".py").replace("/", "."), *arguments),
    ]
    how = in_a_process(ACCELERATE_USE_CPU="true")
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(python_module(*command), **how, **output)


def finish(launch: subprocess.Popen[str], timeout: int) -> tuple[int, str]:
    """Exit status and output of a launch, which is ended with all its processes after ``timeout``
    seconds: then the launcher is asked first, as it alone knows them.

    Raises:
        subprocess.TimeoutExpired: if it had to be ended.
    """
    try:
        output, _ = launch.communicate(timeout=timeout)
    finally:
        if launch.poll() is None:
            launch.terminate()
            launch.communicate(timeout=60)
    return launch.returncode, output


def torchrun(script: str, *arguments: object, processes: int = 2, timeout: int = 300) -> None:
    """`start`, and wait for the end.

    Raises:
        AssertionError: if the launch fails; carries the end of its output.
    """
    status, output = finish(start(script, *arguments, processes=processes), timeout)
    assert status == 0, output[-8000:]


def accelerate(*arguments: object, timeout: int = 300, **environment: str) -> CompletedProcess[str]:
    """`accelerate launch` with these arguments, and what came of it.

    DeepSpeed may abort in teardown: judge a run by a file that it writes last.
    """
    command = ["accelerate.commands.launch", "--main_process_port", free_port(), *arguments]
    how = in_a_process(**environment)
    return subprocess.run(python_module(*command), **how, capture_output=True, timeout=timeout)


def python_module(*command: object) -> list[str]:
    """``python -m`` with ``command``, beginning with the module."""
    return [sys.executable, "-m", *map(str, command)]


def in_a_process(**environment: str) -> dict[str, Any]:
    """How to start one: in the checkout, on one thread, without a hub or a launcher's settings."""
    scripts = str(Path(sys.executable).parent)  # ninja is there, though no environment is activated
    settings = {
        **{name: value for name, value in os.environ.items() if name not in LAUNCHER_SETS},
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")]),
        **environment,
    }
    return {"cwd": ROOT, "env": settings, "text": True}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
