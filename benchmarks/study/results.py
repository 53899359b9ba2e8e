"""The results file of `time_to_accuracy.py`: one JSON object per line, added as runs end.

Kinds of lines are ``cost`` (what scoring takes) and ``run``; ``probe`` lines are of an earlier
version. A line is found by what was requested, so that a finished run is not repeated. The
unfinished line of a killed process is ignored.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sift_trainer.measuring.machine import machine

Line = Mapping[str, Any]


@dataclass(frozen=True)
class RunSpec:
    """A requested run.

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
    """What is finished. New lines are written at once."""

    def __init__(self, file: Path) -> None:
        self.file, self.lines = file, list[Line]()
        if file.is_file():
            for text in file.read_text(encoding="utf-8").splitlines():
                with suppress(json.JSONDecodeError):
                    self.lines.append(json.loads(text))

    def find(self, kind: str, **wanted: Any) -> Line | None:
        """The line of this kind with these values, or None."""
        wanted["kind"] = kind
        return next((line for line in self.lines if wanted.items() <= line.items()), None)

    def find_run(self, spec: RunSpec) -> Line | None:
        """The line of a finished run."""
        return self.find("run", **asdict(spec))

    def add(self, kind: str, **content: Any) -> Line:
        """Write a line, with the machine and the versions."""
        line = {"kind": kind, **content, "machine": machine()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        cut = self.file.is_file() and not self.file.read_bytes().endswith(b"\n")
        with self.file.open("a", encoding="utf-8") as stream:  # a killed process left no line end
            stream.write(("\n" if cut else "") + json.dumps(line) + "\n")
        self.lines.append(line)
        return line
