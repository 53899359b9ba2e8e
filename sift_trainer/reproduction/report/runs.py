"""The runs in some folders, and why a run is not whole."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from sift_trainer.reproduction.report.history import Run, read_run
from sift_trainer.reproduction.run_log import FILE, read_run_log

RESULTS = "results.json"


def find_runs(folders: Sequence[Path]) -> tuple[list[Run], dict[str, str]]:
    """The whole runs in the folders and their subfolders; for each other run, the reason.

    The name of a run is the path of its folder in the folder that all runs are in.

    Raises:
        ValueError: a folder does not exist or has no run in it.
    """
    places: set[Path] = set()
    for folder in folders:
        found = {path.parent for path in folder.resolve().rglob(FILE)}
        if not found:
            raise ValueError(f"{folder} has no {FILE} in it; give the output_dir of a training")
        places |= found
    root = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    runs: list[Run] = []
    left_out: dict[str, str] = {}
    for place in sorted(places):
        name = place.name if place == root else place.relative_to(root).as_posix()
        try:
            runs.append(_read_whole_run(name, place))
        except ValueError as error:
            left_out[name] = str(error)
    return runs, left_out


def _read_whole_run(name: str, folder: Path) -> Run:
    """Raises `ValueError` with the reason why the run is not whole."""
    history = read_run_log(folder)
    last = max((line["step"] for line in history), default=0)
    ends = [line for line in history if "train_runtime" in line and line["step"] == last]
    if not ends:
        raise ValueError(f"unfinished: the log stops at step {last}")
    # A run that a time budget ended has results; one that a signal stopped has none of that step.
    results, planned = folder / RESULTS, ends[-1]["max_steps"]
    points = json.loads(results.read_text())["run"]["points"] if results.is_file() else []
    if last < planned and not (points and points[-1]["spent"]["step"] == last):
        raise ValueError(f"stopped at step {last} of {planned}, to be resumed")
    run = read_run(name, folder)
    if run.setting("training") is None:
        raise ValueError(f"{FILE} has no settings of the training")
    if run.final.spent.step != last:
        evaluated = run.final.spent.step
        raise ValueError(f"ended at step {last}, but the last evaluation is at step {evaluated}")
    if not all(math.isfinite(point.accuracy) for point in run.points):
        raise ValueError("an accuracy is not a number")
    return run
