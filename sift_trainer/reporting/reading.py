"""One run from its folder: what it logged, as what it was set, on which machines, and its end."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sift_trainer.report import MEASURES, Run, summarize
from sift_trainer.run_log import FILE, without_repeats

STATE = "trainer_state.json"
RESULTS = "results.json"
_NOT_SETTINGS = ("event", "step", "time", "machine")


@dataclass(frozen=True)
class LoggedRun:
    """A whole run.

    Attributes:
        name: path of its folder, from where the report looks.
        starts: settings of each time that it was started or resumed; none where only a
            ``trainer_state.json`` is left of it.
        machines: where each of these was.
        rates: (step, learning rate) of the training lines.
        max_steps: what it was asked for; None where nothing says.
        nonfinite_scores: how many there were.
    """

    name: str
    run: Run
    starts: list[dict[str, Any]]
    machines: list[dict[str, Any]]
    rates: list[tuple[float, float]]
    max_steps: int | None
    nonfinite_scores: int

    @property
    def settings(self) -> dict[str, Any]:
        """Of its last start; empty where they are not known."""
        return self.starts[-1] if self.starts else {}

    @property
    def seed(self) -> int | None:
        seed = self.setting("training", "seed")
        return seed if isinstance(seed, int) else None

    def setting(self, *path: str) -> Any:
        """A value of the settings; None where it is not there."""
        value: Any = self.settings
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


@dataclass(frozen=True)
class LeftOut:
    """A run that is not in the tables, and why."""

    name: str
    reason: str


class _HalfWrittenError(Exception):
    """Why a run is not whole."""


def read_logged(name: str, folder: Path) -> LoggedRun | LeftOut:
    """The run of a folder with a log or a trainer state.

    Raises:
        ValueError: a line amid the log is unreadable; naming it. One that a killed process left
            unfinished is not: the last one, or one in front of a resume.
    """
    try:
        return _whole(name, folder)
    except _HalfWrittenError as error:
        return LeftOut(name, str(error))


def _whole(name: str, folder: Path) -> LoggedRun:
    state = _json(folder / STATE)
    if (folder / FILE).is_file():
        lines = _lines(folder / FILE)
        history = without_repeats(lines)
    else:
        lines, history = [], state.get("log_history", [])
        if not isinstance(history, list) or not all(map(_is_line, history)):
            raise _HalfWrittenError(f"{STATE} has no log_history, and there is no {FILE}")
    starts = [line for line in lines if line["event"] == "start"]
    if not history:
        raise _HalfWrittenError("begun, and nothing logged yet")
    max_steps = _end(history, state, _json(folder / RESULTS), starts)
    try:
        run = summarize(name, history)
    except ValueError as error:
        raise _HalfWrittenError(str(error).removeprefix(f"run {name!r}").lstrip(": ")) from error
    _check_evaluations(run, max(line["step"] for line in history))
    return LoggedRun(
        name,
        run,
        [{key: line[key] for key in line if key not in _NOT_SETTINGS} for line in starts],
        [line["machine"] for line in starts if isinstance(line.get("machine"), dict)],
        [(line["step"], line["learning_rate"]) for line in history if "learning_rate" in line],
        max_steps,
        max(int(line.get("sift/nonfinite_scores", 0)) for line in history),
    )


def _lines(file: Path) -> list[dict[str, Any]]:
    *texts, rest = file.read_bytes().split(b"\n")
    lines = [_line(text) for text in texts]
    if rest:
        lines.append(_line(rest))
    for number, (line, following) in enumerate(pairwise(lines), start=1):
        if line is None and (following is None or following["event"] != "start"):
            raise ValueError(
                f"{file}, line {number} is none that a run log has; remove that line if it can be "
                "spared, or leave its folder out"
            )
    if not lines:
        raise _HalfWrittenError(f"{FILE} is empty")
    if lines[-1] is None:
        raise _HalfWrittenError(
            f"the last line of {FILE} is cut off: it is being written, or was killed"
        )
    return [line for line in lines if line is not None]


def _line(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if _is_line(line) and line.get("event") in ("start", "log") else None


def _is_line(line: Any) -> bool:
    """Whether all that is read of a line, and has to be a number, is one."""
    if not isinstance(line, dict) or not _is_number(line.get("step")):
        return False
    training = line.get("training", {})
    if not isinstance(training, dict) or not _is_number(training.get("learning_rate", 0.0)):
        return False
    read = ("learning_rate", "eval_nsp_accuracy", *(f"eval_{measure}" for measure in MEASURES))
    return all(
        _is_number(value) for key, value in line.items() if key in read or key.startswith("sift/")
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _json(file: Path) -> dict[str, Any]:
    """Empty where there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _HalfWrittenError(f"{file.name} cannot be read")
    return content


def _end(
    history: Sequence[Mapping[str, Any]],
    state: Mapping[str, Any],
    results: Mapping[str, Any],
    starts: Sequence[Mapping[str, Any]],
) -> int | None:
    """How many steps the run was asked for, having come to its end."""
    last = max(line["step"] for line in history)
    ends = [line for line in history if "train_runtime" in line]
    training = starts[-1].get("training") if starts else None
    asked = state.get("max_steps")
    if ends and ends[-1].get("max_steps"):
        asked = ends[-1]["max_steps"]
    elif isinstance(training, dict) and training.get("max_steps", -1) > 0:
        asked = training["max_steps"]
    of = f" of {asked:.0f}" if asked else ""
    if not ends or ends[-1]["step"] != last:
        raise _HalfWrittenError(f"no end: the log stops at step {last:.0f}{of}")
    if state and state.get("global_step") != last:
        raise _HalfWrittenError(
            f"{FILE} ends at step {last:.0f}, {STATE} at {state.get('global_step')}: one of them "
            "is not whole"
        )
    # A run that time ended has results; one that a signal stopped has none.
    if asked and last < asked and _last_result(results) != last:
        raise _HalfWrittenError(f"stopped at step {last:.0f}{of}, to be resumed")
    return int(asked) if asked else None


def _last_result(results: Mapping[str, Any]) -> float | None:
    try:
        return float(results["run"]["points"][-1]["spent"]["step"])
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _check_evaluations(run: Run, last: float) -> None:
    if run.final.spent.step != last:
        raise _HalfWrittenError(
            f"ended at step {last:.0f}, but last evaluated at {run.final.spent.step:.0f}"
        )
    for point in run.points:
        if not math.isfinite(point.accuracy):
            raise _HalfWrittenError(f"its accuracy at step {point.spent.step:.0f} is not a number")
