"""Which folders are runs, and which of them are whole."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from sift_trainer.reporting.reading import RESULTS, STATE, LeftOut, LoggedRun, read_logged
from sift_trainer.run_log import FILE

_CHECKPOINT = "checkpoint-"
_LOCK = ".lock"


def find_runs(folders: Sequence[Path]) -> tuple[list[LoggedRun], list[LeftOut]]:
    """The whole runs in the folders and in theirs, by name, and what is there of others.

    A name is the path from the folder, or, of several, from the one that they are all in. A run
    that is in two of them counts once.

    Raises:
        ValueError: a folder is not there or has no run in it, or a log has an unreadable line.
        OSError: a file may not be read.
    """
    places: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(
                f"{folder} is not a folder; give the output_dir of a run, or a folder of runs such "
                "as runs/quickstart"
            )
        found = _run_folders(folder.resolve())
        if not found:
            raise ValueError(
                f"{folder} has no run in it: no folder has a {FILE}, {STATE} or checkpoint; give "
                "the output_dir of a training"
            )
        places.update(dict.fromkeys(found))
    root = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    runs: list[LoggedRun] = []
    left_out: list[LeftOut] = []
    for place in sorted(places):
        name = place.name if place == root else place.relative_to(root).as_posix()
        read = _read(name, place)
        if isinstance(read, LoggedRun):
            runs.append(read)
        else:
            left_out.append(read)
    return runs, [*left_out, *_vanished(folders, set(places))]


def _run_folders(top: Path) -> list[Path]:
    found = []
    for path, folders, files in os.walk(top):
        checkpoints = [name for name in folders if name.startswith(_CHECKPOINT)]
        folders[:] = sorted(set(folders) - set(checkpoints))
        traces = {FILE, STATE, _LOCK} & set(files)
        if traces or checkpoints or (RESULTS in files and "run" in _results(Path(path))):
            found.append(Path(path))
    return found


def _read(name: str, folder: Path) -> LoggedRun | LeftOut:
    if (folder / FILE).is_file() or (folder / STATE).is_file():
        return read_logged(name, folder)
    checkpoints = sorted(
        (path.name for path in folder.glob(f"{_CHECKPOINT}*")),
        key=lambda name: (len(name), name),
    )
    if checkpoints:
        return LeftOut(name, f"no {FILE}, only checkpoints, the last of them {checkpoints[-1]}")
    if (folder / RESULTS).is_file():
        return LeftOut(name, f"no {FILE}, only {RESULTS}")
    return LeftOut(name, "taken by a sweep, and nothing logged yet")


def _vanished(folders: Sequence[Path], places: set[Path]) -> list[LeftOut]:
    """Runs that a configuration's results name and that are not there any more."""
    missing = []
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        runs = _results(folder).get("runs")
        for run in runs if isinstance(runs, list) else []:
            name = run.get("name") if isinstance(run, dict) else None
            if isinstance(name, str) and name and folder / name not in places:
                reason = f"{folder.name}/{RESULTS} has it, and there is no folder of it"
                missing.append(LeftOut(name, reason))
    return missing


def _results(folder: Path) -> dict[str, object]:
    """Empty where there are none or they cannot be read."""
    try:
        content = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
