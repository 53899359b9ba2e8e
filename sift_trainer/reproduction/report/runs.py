"""The runs in some folders: what each logged, and why a run is not whole."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sift_trainer.measuring.machine import SPEED
from sift_trainer.reproduction.report.history import Run, summarize
from sift_trainer.reproduction.run_log import FILE, read_lines, read_run_log

RESULTS = "results.json"
_STATE = "trainer_state.json"
_CHECKPOINT = "checkpoint-"
_TRACES = (FILE, _STATE, f"{_CHECKPOINT}*", ".lock")  # the lock is that of a sweep


class LeftOut(NamedTuple):
    """A run that is not in the tables, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class LoggedRun(Run):
    """A whole run. Its name is the path of its folder in the folder that all runs are in.

    Attributes:
        starts: the start line of each start and resume, with the settings; empty if only a
            ``trainer_state.json`` is left.
        rates: (step, learning rate) of the training lines.
        max_steps: the planned number of steps; None if it is unknown.
        nonfinite_scores: the number of sample scores that were not finite.
    """

    starts: list[dict[str, Any]]
    rates: list[tuple[float, float]]
    max_steps: int | None
    nonfinite_scores: int

    def setting(self, *path: str) -> Any:
        """A value of the settings of the last start; None if it is not there."""
        value: Any = self.starts[-1] if self.starts else {}
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    @property
    def seed(self) -> int | None:
        seed: int | None = self.setting("training", "seed")
        return seed

    @property
    def machines(self) -> list[str]:
        """The different machines that it was on, in words."""
        found = []
        for start in self.starts:
            machine, processes = start.get("machine"), start.get("processes", 1)
            if machine is not None:
                processor, accelerator, cores, threads = (machine.get(name) for name in SPEED)
                torch = machine.get("versions", {}).get("torch")
                where = f"{accelerator or processor}, {cores} cores, threads {threads}"
                where += f", {processes} processes" if processes > 1 else ""
                found.append(f"{where}, torch {torch}")
        return list(dict.fromkeys(found))


def find_runs(folders: Sequence[Path]) -> tuple[list[LoggedRun], list[LeftOut]]:
    """The whole runs in the folders and their subfolders, by name, and those that are left out.

    Raises:
        ValueError: a folder does not exist or has no run in it.
    """
    places: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder; give the output_dir of a run or of runs")
        found = {path.parent for trace in _TRACES for path in folder.resolve().rglob(trace)}
        if not found:
            raise ValueError(
                f"{folder} has no run in it: no {FILE}, {_STATE} or checkpoint; give the "
                "output_dir of a training"
            )
        places |= {place for place in found if not place.name.startswith(_CHECKPOINT)}
    root = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    runs: list[LoggedRun] = []
    left_out: list[LeftOut] = []
    for place in sorted(places):
        name = place.name if place == root else place.relative_to(root).as_posix()
        try:
            runs.append(read_whole_run(name, place))
        except ValueError as error:
            left_out.append(LeftOut(name, str(error)))
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        for run in _read_json(folder / RESULTS).get("runs", []):
            if folder / run["name"] not in places:
                reason = f"{folder.name}/{RESULTS} names it, but it has no folder"
                left_out.append(LeftOut(run["name"], reason))
    return runs, left_out


def read_whole_run(name: str, folder: Path) -> LoggedRun:
    """The run in a folder, from its log, or from its trainer state if there is no log.

    Raises:
        ValueError: why the run is not whole.
    """
    state = _read_json(folder / _STATE)
    if (folder / FILE).is_file():
        starts = [line for line in read_lines(folder) if line["event"] == "start"]
        history = read_run_log(folder)
    elif state:
        starts, history = [], state["log_history"]
    else:
        raise ValueError(f"no {FILE}, only {', '.join(sorted(p.name for p in folder.iterdir()))}")
    if not history:
        raise ValueError("nothing is logged yet")
    max_steps = _check_end(history, state, _read_json(folder / RESULTS))
    run = summarize(name, history)
    last = max(line["step"] for line in history)
    if run.final.spent.step != last:
        evaluated = run.final.spent.step
        raise ValueError(f"ended at step {last}, but the last evaluation is at step {evaluated}")
    if not all(math.isfinite(point.accuracy) for point in run.points):
        raise ValueError("an accuracy is not a number")
    rates = [(line["step"], line["learning_rate"]) for line in history if "learning_rate" in line]
    nonfinite = max(int(line.get("sift/nonfinite_scores", 0)) for line in history)
    return LoggedRun(
        **vars(run), starts=starts, rates=rates, max_steps=max_steps, nonfinite_scores=nonfinite
    )


def _read_json(file: Path) -> dict[str, Any]:
    """Empty if there is no such file."""
    if not file.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file.name} cannot be read: {error}") from error
    return content


def _check_end(
    history: Sequence[Mapping[str, Any]], state: Mapping[str, Any], results: Mapping[str, Any]
) -> int | None:
    """The planned number of steps of a run that came to its end."""
    last = max(line["step"] for line in history)
    ends = [line for line in history if "train_runtime" in line]
    if not ends or ends[-1]["step"] != last:
        raise ValueError(f"unfinished: the log stops at step {last}")
    if state and state["global_step"] != last:
        raise ValueError(
            f"{FILE} ends at step {last}, {_STATE} at step {state['global_step']}: one is not whole"
        )
    planned = ends[-1].get("max_steps") or state.get("max_steps")
    # A run that a time budget ended has results; one that a signal stopped has none of that step.
    points = results.get("run", {}).get("points")
    ended = points is not None and points[-1]["spent"]["step"] == last
    if planned and last < planned and not ended:
        raise ValueError(f"stopped at step {last} of {planned}, to be resumed")
    return planned or None
