"""The results file of `time_to_accuracy.py`: one JSON object a line, added as runs end.

Lines are of three kinds: ``cost`` (what scoring takes), ``run`` and ``probe``. A line is known by
its kind and what was asked for, so that what is finished is not done again; a half-written line, as
a killed process leaves it, is nothing.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sift_trainer.measuring.machine import machine

_ASKED = {
    "cost": ("regime", "criterion", "exit_layer", "keep_ratio", "token_fraction"),
    "run": ("regime", "method", "seed", "budget", "rate"),
    "probe": ("regime", "begin", "held_out"),
}


@dataclass(frozen=True)
class RunSpec:
    """A run that is asked for.

    Attributes:
        regime: name in `REGIMES`.
        method: name in `METHODS`.
        seed: of weights and order.
        budget: share of the regime's steps that it may cost.
        rate: factor of the regime's learning rate.
    """

    regime: str
    method: str
    seed: int
    budget: float = 1.0
    rate: float = 1.0


class Results:
    """What is finished; new lines go to the file at once.

    Args:
        file: is made with its first line.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines = list(read_lines(file))
        self._known = {_key(line): line for line in self.lines}

    def find(self, kind: str, **asked: Any) -> dict[str, Any] | None:
        """The line of what was asked for, None if it is still to be done."""
        return self._known.get(_key({"kind": kind, **asked}))

    def find_run(self, spec: RunSpec) -> dict[str, Any] | None:
        """The line of a finished run."""
        return self.find("run", **asdict(spec))

    def add(self, kind: str, **content: Any) -> dict[str, Any]:
        """Write a line, with the machine and the versions."""
        line = {"kind": kind, **content, "machine": machine()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(line) + "\n"
        with self.file.open("a+b") as stream:
            if stream.tell() and not _ends_a_line(stream):
                text = "\n" + text  # behind a line that a killed process left unfinished
            stream.write(text.encode())
        self.lines.append(line)
        self._known[_key(line)] = line
        return line


def read_lines(file: Path) -> Iterable[dict[str, Any]]:
    """The whole lines of a results file; none if it is not there."""
    if not file.is_file():
        return
    for text in file.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError, KeyError, TypeError):
            line = json.loads(text)
            _key(line)
            yield line


def runs_of(lines: Iterable[Mapping[str, Any]], regime: str) -> list[Mapping[str, Any]]:
    """The finished runs of a regime."""
    return [line for line in lines if line["kind"] == "run" and line["regime"] == regime]


def _key(line: Mapping[str, Any]) -> tuple[Any, ...]:
    kind = line["kind"]
    return (kind, *(line[name] for name in _ASKED[kind]))


def _ends_a_line(stream: Any) -> bool:
    stream.seek(-1, 2)
    return bool(stream.read(1) == b"\n")
