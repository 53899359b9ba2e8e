"""Blocks of commands, read by bash itself, with a recorder in the place of every program.

So quotes, loops, variables and lines that go on are what a shell makes of them. Programs that have
no recorder are not found, and the block fails: nothing that a page names is run by accident.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import ROOT

RECORDED = ("accelerate", "git", "make", "pytest", "python", "sift-trainer", "torchrun")
_SHELL = ("bash", "basename", "head")  # run as they are

_RECORDER = """#!{bash}
printf '%s\\0' "${{0##*/}}" "$@" $'\\1' >>"$RECORDED_CALLS"
{then}
"""
_THEN = {
    "git": 'mkdir -p "${@: -1}"',  # what is cloned is there afterwards
    "scontrol": "echo machine0",
    "srun": 'while [[ "$1" == -* ]]; do shift; done; exec "$@"',
}
# What Slurm sets in a job.
_SLURM = {
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_JOB_NODELIST": "machine[0-1]",
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "1",
}


@dataclass(frozen=True)
class Call:
    """A program of a block, with its arguments as bash gave them."""

    program: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.program, *self.arguments))


def checkout(folder: Path) -> Path:
    """A folder that looks like a checkout, and holds what is written into it."""
    folder.mkdir()
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name not in ("runs", "site", "build", "dist"):
            (folder / path.name).symlink_to(path)
    (folder / "runs").mkdir()
    bash = shutil.which("bash")
    assert bash, "the pages' commands are read by bash; install it"
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in (*RECORDED, "scontrol", "srun"):
        file = programs / name
        file.write_text(_RECORDER.format(bash=bash, then=_THEN.get(name, "")))
        file.chmod(0o755)
    for name in _SHELL:
        found = shutil.which(name)
        assert found, name
        (programs / name).symlink_to(found)
    mkdir = shutil.which("mkdir")
    assert mkdir
    (programs / "mkdir").symlink_to(mkdir)
    return folder


def calls(text: str, folder: Path) -> list[Call]:
    """What bash would run for the lines of a block, in a `checkout`.

    Raises:
        AssertionError: for lines that bash does not read, and programs that no recorder stands for.
    """
    record = folder / ".venv" / "calls"
    record.unlink(missing_ok=True)
    environment = {
        "PATH": str(folder / ".venv" / "bin"),
        "HOME": str(folder),
        "RECORDED_CALLS": str(record),
        **_SLURM,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=environment,
        executable=shutil.which("bash"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"bash: status {done.returncode}: {done.stderr.strip()}"
    if not record.exists():
        return []
    recorded = os.fsdecode(record.read_bytes()).split("\0\1\0")
    words = [call.split("\0") for call in recorded if call]
    return [Call(program, tuple(arguments)) for program, *arguments in words]
