"""The log of a training run: one JSON object per line, written while the run goes on."""

import json
import os
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sift_trainer.measuring.machine import machine

FILE = "log.jsonl"


class RunLog(TrainerCallback):
    """Appends lines to ``log.jsonl`` in `output_dir`, on the main process.

    A ``start`` line has the training arguments, the settings, the machine and the step at which
    training starts or goes on. Every ``log`` line is a log line of the Trainer. The closing line
    also has ``max_steps``, because a stopped run writes one too. A resumed run appends.

    Args:
        settings: what else describes the run, as plain data.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        settings = {"training": args.to_sanitized_dict(), **self.settings, "machine": machine()}
        self._append(args, state, {"event": "start", "step": state.global_step, **settings})

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = dict(logs or {})
        if "train_runtime" in logs:  # the closing line, also that of a stopped run
            logs["max_steps"] = state.max_steps
        self._append(args, state, {"event": "log", "step": state.global_step, **logs})

    def _append(self, args: TrainingArguments, state: TrainerState, line: dict[str, Any]) -> None:
        if not state.is_world_process_zero:
            return
        file = Path(args.output_dir) / FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**line, "time": round(time.time(), 3)}, default=str) + "\n"
        with file.open("a+b") as stream:
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":  # a killed process left an unfinished line
                    text = "\n" + text
            stream.write(text.encode())


def read_lines(folder: str | Path) -> list[dict[str, Any]]:
    """All lines of the log in `folder`, in the order in which they were written.

    A killed process can leave an unfinished line at the end, or before the start line of a resumed
    run. That line is skipped.

    Raises:
        ValueError: `folder` has no ``log.jsonl``, or another line of it is unreadable.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        raise ValueError(f"{file} is not there; give the output_dir of a run")
    lines = [_parsed(text) for text in file.read_bytes().splitlines()]
    for number, (line, after) in enumerate(pairwise([*lines, {"event": "start"}]), start=1):
        if line is None and (after is None or after["event"] != "start"):
            raise ValueError(
                f"{file}, line {number} cannot be read; remove that line if it can be spared"
            )
    return [line for line in lines if line is not None]


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "event" in line else None


def read_run_log(folder: str | Path) -> list[dict[str, Any]]:
    """The log lines of a run in the order of training, without the steps that a resume repeated.

    Raises `ValueError`, see `read_lines`.
    """
    logged: list[dict[str, Any]] = []
    for line in read_lines(folder):
        if line["event"] == "start":
            logged = [before for before in logged if before["step"] <= line["step"]]
        else:
            logged.append(line)
    return logged


def read_starts(folder: str | Path) -> list[dict[str, Any]]:
    """The start lines of a run. Raises `ValueError`, see `read_lines`."""
    return [line for line in read_lines(folder) if line["event"] == "start"]
