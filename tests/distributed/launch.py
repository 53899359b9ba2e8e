"""Start a script as several real processes on the CPU."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess

from torch import distributed

ROOT = Path(__file__).parents[2]
LAUNCHER_SETS = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def leave() -> None:
    """Wait for the others and close the process group: threads of gloo that outlive it abort."""
    distributed.barrier()
    distributed.destroy_process_group()


def torchrun(script: str, *arguments: object, processes: int = 2, timeout: int = 300) -> None:
    """Run ``script`` (relative to the checkout) in ``processes`` processes over gloo.

    Raises:
        AssertionError: if the launch fails; carries the end of its output.
    """
    command = [
        *("torch.distributed.run", "--nproc_per_node", processes, "--master_port", free_port()),
        *("-m", script.removesuffix(".py").replace("/", "."), *arguments),
    ]
    done = python_module(command, timeout, ACCELERATE_USE_CPU="true")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


def accelerate(*arguments: object, timeout: int = 300, **environment: str) -> CompletedProcess[str]:
    """`accelerate launch` with these arguments, and what came of it.

    DeepSpeed may abort in teardown: judge a run by a file that it writes last.
    """
    command = ["accelerate.commands.launch", "--main_process_port", free_port(), *arguments]
    return python_module(command, timeout, **environment)


def python_module(
    command: Sequence[object], timeout: int, **environment: str
) -> CompletedProcess[str]:
    """``python -m`` with ``command``, beginning with the module; on one thread, without a hub."""
    scripts = str(Path(sys.executable).parent)  # ninja is there, though no environment is activated
    settings = {
        **{name: value for name, value in os.environ.items() if name not in LAUNCHER_SETS},
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")]),
        **environment,
    }
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        env=settings,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
