"""Start a script as several real processes on the CPU."""

import json
import os
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from torch import distributed

from tests.forked import Forked, wait_for

ROOT = Path(__file__).parents[2]
LAUNCHER_SETS = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def leave() -> NoReturn:
    """End this process with status 0, once all others have come here too.

    It skips the interpreter's shutdown, in which threads of gloo sometimes abort the process.
    """
    distributed.barrier()
    distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def begin(script: str, *arguments: object, processes: int = 2) -> list[Forked]:
    """``script`` (relative to the checkout) in ``processes`` processes over gloo, begun with the
    environment of a launcher."""
    told = in_a_process(ACCELERATE_USE_CPU="true")["env"]
    return _begin(script, arguments, processes, told)


def finish(members: list[Forked], timeout: int) -> tuple[list[int | None], str]:
    """Status of each process, None for one that had to be killed, and the end of what they printed.
    When one fails or ``timeout`` seconds have passed, the others are killed, as by a launcher."""
    wait_for(members, timeout)
    results = [member.result() for member in members]
    for member in members:
        member.kill()
    printed = "".join(out[-3000:] + error[-5000:] for _, out, error in results)
    return [status for status, *_ in results], printed


def together(script: str, *arguments: object, processes: int = 2, timeout: int = 300) -> None:
    """Run ``script`` as `begin` does, to its end.

    Raises:
        AssertionError: if one fails or does not end in time. Carries the end of what they printed.
    """
    statuses, printed = finish(begin(script, *arguments, processes=processes), timeout)
    assert statuses == [0] * processes, printed


def as_by_accelerate(*line: object, timeout: int = 300, **environment: str) -> str:
    """Run what this line of `accelerate launch` would start, with the environment that it sets, as
    `together` does; returns the end of what was printed.

    DeepSpeed may abort in teardown: judge a run by a file that it writes last.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "told.json"
        told = Forked(
            "tests/distributed/accelerate_line.py",
            output,
            *line,
            environment=in_a_process(**environment)["env"],
        )
        status, out, error = told.ended(timeout)
        assert status == 0, out + error
        found = json.loads(output.read_text())
    start = (found["script"], found["arguments"], found["processes"], found["environment"])
    return finish(_begin(*start), timeout)[1]


def _begin(
    script: str, arguments: Sequence[object], processes: int, told: Mapping[str, str]
) -> list[Forked]:
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    members = []
    for rank in range(processes):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        environment = {**told, **meeting, **place, "LOCAL_WORLD_SIZE": str(processes)}
        members.append(Forked(script, *arguments, environment=environment))
    return members


def in_a_process(**environment: str) -> dict[str, Any]:
    """Keywords of `subprocess`: in the checkout, on one thread, without a hub or a launcher's
    settings."""
    scripts = str(Path(sys.executable).parent)  # where ninja is
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
