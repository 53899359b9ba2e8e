"""The harness of the step benchmarks: arms take training steps in turn, and are compared.

An arm is one way to take a step. Each arm has its own trainer around a copy of the model's modules.
The copies share their parameters, so all arms train the same weights in one process. An arm that
fails is recorded with its error, and the others continue.
"""

import copy
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from transformers import Trainer

from sift_trainer import SiftTrainer, SiftTrainingArguments
from sift_trainer.measuring.machine import machine
from sift_trainer.measuring.timing import StepTimer

# The Trainer would spread a batch over several GPUs. CUDA reads this when it is first used.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

PHASES = ("sampling", "forward", "backward", "optimizer")
Row = dict[str, Any]
Round = dict[str, dict[str, float]]  # arm's name -> its numbers


@dataclass(frozen=True)
class Arm:
    """One way to take a step.

    Attributes:
        settings: ``sift_*`` fields; None for the stock Trainer.
        compiled: train the model with ``torch_compile``.
    """

    name: str
    settings: dict[str, Any] | None
    compiled: bool = False


class Stepper:
    """The trainer of one arm. It takes optimisation steps as the Trainer's own loop does.

    Args:
        model: on the device; its parameters are shared, its modules are copied.
        options: ``device``, ``bf16`` and ``batch_size``, the rows that are trained on.
        more: further training arguments.
    """

    def __init__(
        self,
        arm: Arm,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        data: Any,
        collator: Any,
        options: Namespace,
        **more: Any,
    ) -> None:
        self.arm = arm
        with patch.dict(os.environ):  # torch_compile sets variables that the next arm would find
            # The run is so long that no step of the benchmark is in its warm-up or cool-down.
            args = SiftTrainingArguments(
                tempfile.mkdtemp(),
                max_steps=10**6,
                per_device_train_batch_size=options.batch_size,
                use_cpu=options.device == "cpu",
                bf16=options.bf16,
                torch_compile=arm.compiled,
                dataloader_drop_last=True,
                report_to=[],
                **more,
                **(arm.settings or {}),
            )
            self.trainer = (Trainer if arm.settings is None else SiftTrainer)(
                _copied_modules(model),
                args,
                data_collator=collator,
                train_dataset=data,
                optimizers=(optimizer, None),
            )
            self.model = self.trainer.accelerator.prepare(self.trainer.model)
        self.trainer.state.max_steps = args.max_steps
        self.trainer.current_gradient_accumulation_steps = 1
        self.loader = self.trainer.get_train_dataloader()
        self.batches: Iterator[dict[str, Any]] = iter(())

    def step(self) -> None:
        """One step, with the read of the loss that makes the Trainer's loop wait for the device."""
        trainer = self.trainer
        window, count = trainer.get_batch_samples(self.batches, 1, trainer.args.device)
        if not window:
            self.batches = iter(self.loader)
            window, count = trainer.get_batch_samples(self.batches, 1, trainer.args.device)
        loss = trainer.training_step(self.model, window[0], count)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()}")
        sifting = isinstance(trainer, SiftTrainer)
        with trainer.sift_callback.timer.span("optimizer") if sifting else nullcontext():
            trainer.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
            trainer.optimizer.step()
            self.model.zero_grad()

    def turn(self, steps: int) -> dict[str, float]:
        """Mean seconds per step over consecutive steps, whole and by phase.

        On a CPU the turn also has the seconds of the processor, which other programs do not change.
        On a GPU it has the peak memory in MB, and an uncounted step goes first so that the device
        is busy as in a run. A compiled arm has the number of graphs compiled in the turn.
        """
        device = self.trainer.args.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.step()
            torch.cuda.synchronize()
        if isinstance(self.trainer, SiftTrainer):
            timer = self.trainer.sift_callback.timer = StepTimer()
            timer.device = device
        graphs, began, computed = _graphs(), time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found = {"step": (time.perf_counter() - began) / steps}
        if device.type == "cpu":
            found["processor"] = (time.process_time() - computed) / steps
        else:
            found["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
        if isinstance(self.trainer, SiftTrainer):
            phases = timer.interval()
            found |= {phase: phases[phase] / steps for phase in PHASES}
        return {**found, "graphs": _graphs() - graphs} if self.arm.compiled else found


def _copied_modules(model: nn.Module) -> nn.Module:
    """A copy of the modules around the same parameters and buffers. Hooks, an autocast forward and
    compilation change the modules of one arm only."""
    shared = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def _graphs() -> int:
    """Graphs that this process has compiled."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def measure(
    arms: Sequence[Arm],
    start: Callable[[Arm], Stepper],
    references: Callable[[Arm], Mapping[str, str]],
    options: Namespace,
    seconds: float | None = None,
    report: Callable[[list[Row]], None] = lambda rows: None,
) -> list[Row]:
    """Every arm takes a turn in every round, in reversed order in every second round.

    Args:
        start: sets an arm up.
        references: of an arm, field -> the arm whose step in the same round is the field's unit.
        options: ``rounds``, ``steps`` of a turn, and ``warmup``, the uncounted turns of each arm.
        seconds: afterwards no arm is set up and no further round begins.
        report: called with the rows after every round.

    Returns:
        one row per arm, with medians and ranges over the rounds, or its error.
    """
    end = None if seconds is None else time.monotonic() + seconds
    ready: dict[str, Stepper] = {}
    rounds: list[Round] = []
    errors: dict[str, str] = {}

    def late() -> bool:
        return end is not None and time.monotonic() > end

    def attempt(name: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:  # the other arms are measured whatever this one fails of
            errors[name] = f"{type(error).__name__}: {str(error)[:500]}"
            print(f"{name}: {errors[name]}", file=sys.stderr, flush=True)
            ready.pop(name, None)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # otherwise the next arm lacks what the failed one held
        return None

    def warmed_up(arm: Arm) -> Stepper:
        stepper = start(arm)
        for _ in range(options.warmup):
            stepper.turn(options.steps)
        return stepper

    def rows() -> list[Row]:
        return [_row(arm, rounds, errors, references(arm)) for arm in arms]

    for arm in arms:
        if late():
            errors[arm.name] = "not started: the time was up"
        elif stepper := attempt(arm.name, lambda arm=arm: warmed_up(arm)):
            ready[arm.name] = stepper
    for number in range(options.rounds):
        if not ready or (number and late()):
            break
        found: Round = {}
        for name in list(ready) if number % 2 == 0 else list(reversed(ready)):
            if numbers := attempt(name, lambda name=name: ready[name].turn(options.steps)):
                found[name] = numbers
        rounds.append(found)
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
        report(rows())
    return rows()


def _row(
    arm: Arm, rounds: list[Round], errors: Mapping[str, str], references: Mapping[str, str]
) -> Row:
    row = asdict(arm)
    if arm.name in errors:
        return {**row, "error": errors[arm.name]}
    rounds = [numbers for numbers in rounds if arm.name in numbers]
    own = [numbers[arm.name] for numbers in rounds]
    row["rounds"] = len(rounds)
    row |= spread("step_seconds", [numbers["step"] for numbers in own])
    for field, reference in references.items():
        for number, prefix in (("step", ""), ("processor", "processor_")):
            ratios = [
                n[arm.name][number] / n[reference][number]
                for n in rounds
                if reference in n and number in n[reference]
            ]
            row |= spread(prefix + field, ratios) if ratios else {}
    if "sampling" in own[0]:
        row |= {f"{p}_seconds": statistics.median(n[p] for n in own) for p in PHASES}
    if any(numbers.get("sampling") for numbers in own):
        shares = [n["sampling"] / (n["forward"] + n["backward"]) for n in own]
        row |= spread("overhead", shares)
    if "peak_mb" in own[0]:
        row["peak_mb"] = max(numbers["peak_mb"] for numbers in own)
    if arm.compiled:
        row["graphs_after_warmup"] = sum(numbers["graphs"] for numbers in own)
    return row


def spread(name: str, values: Iterable[float]) -> Row:
    """The median, and under ``name_range`` the lowest and the highest."""
    values = list(values)
    return {name: statistics.median(values), f"{name}_range": [min(values), max(values)]}


def table(rows: Sequence[Row], columns: Sequence[str], width: int = 40) -> str:
    """Rows as text: their name and some numbers, each with its range if it has one."""
    lines = [f"{'':<{width}}" + "".join(f"{column:>26}" for column in columns)]
    for row in rows:
        cells = [row["error"]] if "error" in row else [_cell(row, column) for column in columns]
        lines.append(f"{row['name']:<{width}}" + "".join(f"{cell:>26}" for cell in cells))
    return "\n".join(lines)


def _cell(row: Row, column: str) -> str:
    if row.get(column) is None:
        return ""
    low, high = row.get(f"{column}_range", (None, None))
    return f"{row[column]:.4g}" + ("" if low is None else f" ({low:.3g}-{high:.3g})")


def write_result(output: Path, options: Namespace, command: Sequence[str], **content: Any) -> None:
    """Write the machine, the settings, the command and what was measured as JSON."""
    settings = {name: value for name, value in vars(options).items() if name != "output"}
    result = {"machine": machine(), "command": list(command), "settings": settings, **content}
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_suffix(".part")
    unfinished.write_text(json.dumps(result, indent=2, default=str) + "\n")
    unfinished.replace(output)


def device_name(wanted: str | None = None) -> str:
    """``wanted``, or ``cuda`` if there is a GPU, or ``cpu``."""
    return wanted or ("cuda" if torch.cuda.is_available() else "cpu")


def describe_machine() -> str:
    """The first line of a benchmark's output."""
    found = machine()
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    where = found["accelerator"] or f"{found['processor']}, {found['threads']} threads"
    return f"{where}; Python {found['python']}, {versions}"
