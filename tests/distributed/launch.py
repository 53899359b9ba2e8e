"""Start a script as several real processes on the CPU."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from torch import distributed

ROOT = Path(__file__).parents[2]


def leave() -> None:
    """Wait for the others and close the process group: threads of gloo that outlive it abort."""
    distributed.barrier()
    distributed.destroy_process_group()


def start(script: str, *arguments: object, processes: int = 2) -> subprocess.Popen[str]:
    """Start ``script`` (relative to the checkout) in ``processes`` processes over gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nproc_per_node", str(processes), "--master_port", str(port)),
        *("-m", script.removesuffix(".py").replace("/", ".")),
        *map(str, arguments),
    ]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "ACCELERATE_USE_CPU": "true",
    }
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


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
