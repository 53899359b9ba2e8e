"""Whose seconds can be compared."""

from collections.abc import Sequence
from typing import Any

from sift_trainer.reporting.groups import Comparison, Group
from sift_trainer.reporting.reading import LoggedRun

_SPEED = ("processor", "accelerator", "cores", "threads")
"""What of a machine decides how much it does in a second, as in `time_budget`."""


def machines_of(run: LoggedRun) -> list[str]:
    """In words, each once, with the number of processes; empty where none was logged."""
    found = [_in_words(machine, run.setting("processes")) for machine in run.machines]
    return list(dict.fromkeys(found))


def share_a_machine(groups: Sequence[Group]) -> bool:
    """Whether all their runs were on one machine, as far as the logs say."""
    return len({name for group in groups for run in group.runs for name in machines_of(run)}) < 2


def distinct(comparison: Comparison) -> dict[str, list[str]]:
    """Machine -> runs that were on it."""
    found: dict[str, list[str]] = {}
    for run in comparison.runs:
        for machine in machines_of(run):
            found.setdefault(machine, []).append(run.name)
    return found


def _in_words(machine: dict[str, Any], processes: Any) -> str:
    values = {name: machine.get(name) for name in _SPEED}
    kind = values["accelerator"] or values["processor"]
    parts = [str(kind), f"{values['cores']} cores", f"threads {values['threads']}"]
    parts += [f"{processes} processes"] if processes not in (None, 1) else []
    versions = machine.get("versions")
    torch = versions.get("torch") if isinstance(versions, dict) else None
    return ", ".join([*parts, *([f"torch {torch}"] if torch else [])])
