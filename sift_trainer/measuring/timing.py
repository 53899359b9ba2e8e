"""Where a step's time goes, without waiting for the device inside the step."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

PHASES = ("data", "sampling", "forward", "backward", "optimizer")


class StepTimer:
    """Seconds spent in each phase.

    On an accelerator a phase is marked by two events on the current stream, which are read only in
    `drain`; on a CPU, and for ``data`` everywhere (the host waits for the loader), by the clock.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.clock = time.perf_counter if clock is None else clock
        self.device = torch.device("cpu")
        self.totals = dict.fromkeys(PHASES, 0.0)
        self._interval = dict.fromkeys(PHASES, 0.0)
        self._open: dict[str, float | torch.Event] = {}
        self._events: list[tuple[str, torch.Event, torch.Event]] = []
        self._in_training_step = False

    def start(self, phase: str) -> None:
        self._open[phase] = self._mark(phase)

    def stop(self, phase: str) -> None:
        """End a phase; one that was not started is left alone."""
        begin = self._open.pop(phase, None)
        if begin is None:
            return
        end = self._mark(phase)
        if isinstance(begin, torch.Event) and isinstance(end, torch.Event):
            self._events.append((phase, begin, end))
        elif isinstance(begin, float) and isinstance(end, float):
            self._add(phase, end - begin)

    @contextmanager
    def span(self, phase: str) -> Iterator[None]:
        self.start(phase)
        try:
            yield
        finally:
            self.stop(phase)

    @contextmanager
    def training_step(self) -> Iterator[None]:
        self._in_training_step = True
        try:
            yield
        finally:
            self._in_training_step = False
            self.stop("backward")

    @contextmanager
    def forward(self) -> Iterator[None]:
        """The forward of a training step, which the backward follows. Evaluations are not timed."""
        if not self._in_training_step:
            yield
            return
        with self.span("forward"):
            yield
        self.start("backward")

    def drain(self, wait: bool = True) -> None:
        """Read the events so far; without ``wait``, those of phases that the device finished."""
        if wait and self._events:
            self._events[-1][2].synchronize()
        read = 0
        for phase, begin, end in self._events:
            if not wait and not end.query():
                break
            self._add(phase, begin.elapsed_time(end) / 1000)  # events count milliseconds
            read += 1
        del self._events[:read]

    def interval(self) -> dict[str, float]:
        """Seconds per phase since the last call."""
        self.drain()
        interval, self._interval = self._interval, dict.fromkeys(PHASES, 0.0)
        return interval

    def _add(self, phase: str, seconds: float) -> None:
        self.totals[phase] += seconds
        self._interval[phase] += seconds

    def _mark(self, phase: str) -> float | torch.Event:
        if self.device.type == "cpu" or phase == "data":
            return self.clock()
        event = torch.Event(self.device, enable_timing=True)
        event.record()
        return event
