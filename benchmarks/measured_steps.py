"""What the benchmarks of a step share: arms that take steps in turn, and what is told of them.

An arm is one way to take a step. Every arm has a trainer of its own around a copy of the model that
shares its parameters, so that all train the same weights with the same optimizer, in one process.
An arm that fails is recorded with its error; the others go on.
"""

import copy
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer

from sift_trainer import SiftTrainer, SiftTrainingArguments
from sift_trainer.measuring.machine import machine
from sift_trainer.measuring.timing import StepTimer

# One GPU: over several the Trainer would spread a batch. Read when CUDA is first asked for.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

PHASES = ("sampling", "forward", "backward", "optimizer")


@dataclass(frozen=True)
class Arm:
    """One way to take a step.

    Attributes:
        settings: ``sift_*`` fields; None for the stock Trainer.
        compiled: whether the model is trained with ``torch_compile``.
    """

    name: str
    settings: dict[str, Any] | None
    compiled: bool = False


class Stepper:
    """A trainer of one arm that takes optimisation steps as the Trainer's own loop does.

    Args:
        model: on the device; its parameters are shared, its modules are copied.
        options: ``device``, ``bf16`` and ``batch_size``, the rows that are trained on.
        more: further fields of the training arguments.
    """

    def __init__(self, arm: Arm, model, optimizer, data, collator, options, **more: Any) -> None:
        with _environment_kept():
            # A run so long that no step of the benchmark falls into a warm-up or cool-down.
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
            trainer_class = Trainer if arm.settings is None else SiftTrainer
            self.trainer = trainer_class(
                shell(model),
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

    def window(self) -> tuple[list[dict[str, Any]], Any]:
        """The next batch, in a list, and the number of its labels."""
        device = self.trainer.args.device
        window, count = self.trainer.get_batch_samples(self.batches, 1, device)
        if not window:
            self.batches = iter(self.loader)
            window, count = self.trainer.get_batch_samples(self.batches, 1, device)
        return window, count

    def step(self) -> None:
        """One step, with what waits for the device in the Trainer's loop: the look at the loss."""
        trainer = self.trainer
        window, count = self.window()
        loss = trainer.training_step(self.model, window[0], count)
        if torch.isnan(loss) or torch.isinf(loss):
            raise FloatingPointError(f"the loss is {loss.item()}")
        with self._optimizer_phase():
            trainer.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
            trainer.optimizer.step()
            self.model.zero_grad()

    def turn(self, steps: int) -> dict[str, float]:
        """Seconds of a step, whole and by phase: the mean over ``steps`` consecutive ones; on a CPU
        also its processor's seconds, which other programs take no part of, on a GPU the peak
        memory, in MB.

        On a GPU a step goes before that is not counted: the first counted one then meets a device
        that is at work, as in a training run.
        """
        device = self.trainer.args.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.step()
        if isinstance(self.trainer, SiftTrainer):
            self.trainer.sift_callback.timer = StepTimer()
            self.trainer.sift_callback.timer.device = device
        began = time.process_time()
        seconds = {"step": timed(device, lambda: [self.step() for _ in range(steps)]) / steps}
        if device.type == "cpu":
            seconds["processor"] = (time.process_time() - began) / steps
        if isinstance(self.trainer, SiftTrainer):
            phases = self.trainer.sift_callback.timer.interval()
            seconds |= {phase: phases[phase] / steps for phase in PHASES}
        if device.type == "cuda":
            seconds["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
        return seconds

    @contextmanager
    def _optimizer_phase(self) -> Iterator[None]:
        if isinstance(self.trainer, SiftTrainer):
            with self.trainer.sift_callback.timer.span("optimizer"):
                yield
        else:
            yield


def shell(model: nn.Module) -> nn.Module:
    """A copy of the modules around the same parameters and buffers: what one arm does to its model
    (an autocast forward, hooks, compilation) is no other's."""
    shared = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def timed(device: torch.device, work: Callable[[], Any]) -> float:
    """Seconds that ``work`` takes; on a GPU those between two events on its stream, so that work
    queued before is not waited for."""
    if device.type != "cuda":
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    marks[0].record()
    work()
    marks[1].record()
    marks[1].synchronize()
    return marks[0].elapsed_time(marks[1]) / 1000


@contextmanager
def _environment_kept() -> Iterator[None]:
    """``torch_compile`` is passed on by the environment, where the next arm would find it."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# ---- arms in turn ----


@dataclass
class Turns:
    """What arms took, round by round.

    Attributes:
        rounds: arm's name -> its numbers, of each round.
        errors: why an arm is not in them.
    """

    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)


Turn = Callable[[], dict[str, float]]


def take_turns(
    starts: dict[str, Callable[[], Turn]],
    rounds: int,
    warmup: int = 1,
    deadline: float | None = None,
    after_round: Callable[[Turns], None] = lambda turns: None,
) -> Turns:
    """Let every arm take its turn in every round, in reversed order in every second one.

    Args:
        starts: name -> what sets the arm up and returns its turn.
        warmup: turns of each arm that are not counted, taken as soon as it is set up.
        deadline: of `time.monotonic`; no arm is set up and no second round begun after it.
        after_round: called with all that is known.
    """
    turns, ready = Turns(), {}

    def attempt(name: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:  # whatever one arm fails of, the others are to be measured
            turns.errors[name] = f"{type(error).__name__}: {str(error)[:500]}"
            print(f"{name}: {turns.errors[name]}", file=sys.stderr, flush=True)
            ready.pop(name, None)
            for numbers in turns.rounds:
                numbers.pop(name, None)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # what a failed arm held would be missed by the next
        return None

    def late() -> bool:
        return deadline is not None and time.monotonic() > deadline

    for name, start in starts.items():
        if late():
            turns.errors[name] = "not started: the time was up"
            continue
        turn = attempt(name, start)
        if turn is not None:
            ready[name] = turn
            attempt(name, lambda turn=turn: [turn() for _ in range(warmup)])
    for number in range(rounds):
        if (number and late()) or not ready:
            break
        turns.rounds.append({})
        for name in list(ready) if number % 2 == 0 else list(reversed(ready)):
            found = attempt(name, ready[name])
            if found is not None:
                turns.rounds[-1][name] = found
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        after_round(turns)
    return turns


# ---- what is told of them ----


def spread(name: str, values: Iterable[float]) -> dict[str, Any]:
    """Median, and under ``name_range`` the lowest and the highest."""
    values = list(values)
    return {name: statistics.median(values), f"{name}_range": [min(values), max(values)]}


def summary(arm: Arm, turns: Turns, references: dict[str, str]) -> dict[str, Any]:
    """One arm's medians over the rounds.

    Args:
        references: field -> the arm whose step of the same round is the unit of it.
    """
    row = asdict(arm)
    if arm.name in turns.errors:
        return {**row, "error": turns.errors[arm.name]}
    rounds = [numbers for numbers in turns.rounds if arm.name in numbers]
    own = [numbers[arm.name] for numbers in rounds]
    row["rounds"] = len(rounds)
    row |= spread("step_seconds", [numbers["step"] for numbers in own])
    for name, reference in references.items():
        ratios = [n[arm.name]["step"] / n[reference]["step"] for n in rounds if reference in n]
        if ratios:
            row |= spread(name, ratios)
        ratios = [
            n[arm.name]["processor"] / n[reference]["processor"]
            for n in rounds
            if "processor" in n[arm.name] and reference in n
        ]
        if ratios:
            row |= spread(f"processor_{name}", ratios)
    if "sampling" in own[0]:
        row |= {f"{p}_seconds": statistics.median(n[p] for n in own) for p in PHASES}
        if any(numbers["sampling"] for numbers in own):
            shares = [n["sampling"] / (n["forward"] + n["backward"]) for n in own]
            row |= spread("overhead", shares)
    if "peak_mb" in own[0]:
        row["peak_mb"] = max(numbers["peak_mb"] for numbers in own)
    return row


def table(rows: list[dict[str, Any]], columns: Sequence[str], width: int = 40) -> str:
    """Rows as text: their name and some numbers, each with its range where there is one."""
    lines = [f"{'':<{width}}" + "".join(f"{column:>24}" for column in columns)]
    for row in rows:
        cells = [row.get("error", "")] if "error" in row else [_cell(row, c) for c in columns]
        lines.append(f"{row['name']:<{width}}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def _cell(row: dict[str, Any], column: str) -> str:
    if row.get(column) is None:
        return ""
    text = f"{row[column]:.4g}"
    if f"{column}_range" in row:
        low, high = row[f"{column}_range"]
        text += f" ({low:.3g}-{high:.3g})"
    return text


def write_result(output: Path, options: Any, command: Sequence[str], **content: Any) -> None:
    """The machine, the settings and the command beside what was measured, as JSON."""
    settings = {name: value for name, value in vars(options).items() if name != "output"}
    result = {"machine": machine(), "command": list(command), "settings": settings, **content}
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_suffix(".part")
    unfinished.write_text(json.dumps(result, indent=2, default=str) + "\n")
    unfinished.replace(output)


def device_name(asked: str | None = None) -> str:
    """``cuda`` if there is one, else ``cpu``, unless one is asked for."""
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")


def describe_machine() -> str:
    """One line that a benchmark begins with."""
    found = machine()
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    where = found["accelerator"] or f"{found['processor']}, {found['threads']} threads"
    return f"{where}; Python {found['python']}, {versions}"


def peak_of_process() -> float:
    """Peak resident memory of this process, in MB.

    Not `getrusage`: what it tells of a new process begins with the peak of the one that started it.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
