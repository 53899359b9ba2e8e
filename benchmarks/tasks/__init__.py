"""Sifting rules compared on tasks at equal cost: `run.py` measures, `page.py` makes the page."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

Line = dict[str, Any]
TUNING_SEED = 1000  # of the runs that choose the learning rate, which are not compared


def read(file: Path) -> list[Line]:
    """The lines of a results file, without the unfinished ones of killed processes."""
    lines = []
    for text in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        with suppress(json.JSONDecodeError):
            lines.append(json.loads(text))
    return lines


def quality(line: Line) -> float:
    """The task's metric of a run, where more is better: percent, or minus a loss in nats."""
    name = line["settings"]["task"]["metric"]
    return float(line["metrics"][name]) * (-1 if name == "loss" else 100)


def best_rate(lines: list[Line], task: Line) -> float:
    """The learning rate at which stock was best, or the middle one if it was not tuned."""
    tuned = [line for line in lines if line.get("seed") == TUNING_SEED]
    tuned = [line for line in tuned if line["settings"]["task"] == task]
    middle = sorted(task["rates"])[len(task["rates"]) // 2]
    return float(max(tuned, key=quality)["learning_rate"] if tuned else middle)
