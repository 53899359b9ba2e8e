"""What a training run leaves behind for reports: one JSON object per line, as it happens."""

import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

FILE = "log.jsonl"
_PACKAGES = ["sift-trainer", "torch", "transformers", "accelerate", "datasets", "deepspeed"]


def machine() -> dict[str, Any]:
    """Processor, accelerator and versions, as far as they matter to speed and results."""
    return {
        "processor": platform.processor() or platform.machine(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


class RunLog(TrainerCallback):
    """Appends to ``log.jsonl`` in `output_dir`, beside the checkpoints, on the main process.

    A ``start`` line has the settings, the machine and the step that training goes on from; every
    ``log`` line is a log line of the Trainer: steps, accuracy, seconds of each phase, candidates
    and backpropagated samples since the start; the closing one has ``max_steps`` besides, as a
    stopped run has one too. A resumed run appends to the same file.

    Args:
        settings: what describes the run, as plain data.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._append(
            args,
            state,
            {"event": "start", "step": state.global_step, **self.settings, "machine": machine()},
        )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = dict(logs or {})
        if "train_runtime" in logs:  # also of a run that was stopped before its last step
            logs["max_steps"] = state.max_steps
        self._append(args, state, {"event": "log", "step": state.global_step, **logs})

    def _append(self, args: TrainingArguments, state: TrainerState, line: dict[str, Any]) -> None:
        if not state.is_world_process_zero:
            return
        file = Path(args.output_dir) / FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**line, "time": round(time.time(), 3)}, default=str) + "\n"
        with file.open("a+b") as stream:
            if stream.tell() and not _ends_a_line(stream):
                text = "\n" + text  # behind a line that a killed process left unfinished
            stream.write(text.encode())


def _ends_a_line(stream: Any) -> bool:
    stream.seek(-1, 2)
    return bool(stream.read(1) == b"\n")


def read_run_log(folder: str | Path) -> list[dict[str, Any]]:
    """The log lines of a run in the order of training, without those that a resume did again.

    Raises:
        ValueError: there is no ``log.jsonl`` in `folder`.
    """
    return without_repeats(_read(folder))


def without_repeats(written: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The log lines out of all lines of a file: what a resumed run does again counts once."""
    lines: list[dict[str, Any]] = []
    for line in written:
        if line["event"] == "start":
            lines = [before for before in lines if before["step"] <= line["step"]]
        else:
            lines.append(line)
    return lines


def read_machines(folder: str | Path) -> list[dict[str, Any]]:
    """The machines that a run was on, one for each time that it was started or resumed.

    Raises:
        ValueError: there is no ``log.jsonl`` in `folder`.
    """
    return [line["machine"] for line in _read(folder) if line["event"] == "start"]


def _read(folder: str | Path) -> Iterator[dict[str, Any]]:
    file = Path(folder) / FILE
    if not file.is_file():
        raise ValueError(f"{file} is not there; give the output_dir of a run")
    for text in file.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):  # the unfinished line of a process that was killed
            yield json.loads(text)
