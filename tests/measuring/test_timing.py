"""Seconds per phase, by a clock that the tests wind."""

from typing import Any

import pytest
import torch

from sift_trainer.measuring.timing import PHASES, StepTimer

NONE = dict.fromkeys(PHASES, 0.0)


class Clock:
    """Moves only when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_phases_add_up_over_an_interval_and_since_the_start() -> None:
    """One that spans two intervals counts where it ends; one within another counts for itself."""
    clock = Clock()
    timer = StepTimer(clock)
    with timer.span("data"):
        clock.now += 1
        with timer.span("sampling"):
            clock.now += 2
    clock.now += 10  # between phases
    timer.start("backward")
    clock.now += 2
    assert timer.interval() == {**NONE, "data": 3.0, "sampling": 2.0}
    clock.now += 3
    timer.stop("backward")
    with timer.span("data"):
        clock.now += 4
    assert timer.interval() == {**NONE, "backward": 5.0, "data": 4.0}
    assert timer.interval() == NONE
    assert timer.totals == {**NONE, "data": 7.0, "sampling": 2.0, "backward": 5.0}


def test_the_accelerator_is_waited_for_only_when_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, waits = Clock(), list[float]()

    class Event:
        """Of a device with the same clock, that has come as far as `reached`."""

        reached = 0.0

        def __init__(self, device: torch.device, enable_timing: bool) -> None:
            assert (device.type, enable_timing) == ("cuda", True)

        def record(self) -> None:
            self.at = clock.now

        def synchronize(self) -> None:
            waits.append(self.at)

        def query(self) -> bool:
            return self.at <= Event.reached

        def elapsed_time(self, end: Any) -> float:
            return (end.at - self.at) * 1000

    monkeypatch.setattr(torch, "Event", Event)
    timer = StepTimer(clock)
    timer.device = torch.device("cuda")
    for _ in range(3):
        with timer.span("data"):  # the host waits for the loader: read from its own clock
            clock.now += 1
        for phase in ("sampling", "forward"):
            with timer.span(phase):
                clock.now += 2
    Event.reached = 1003.5  # the first sampling is finished
    timer.drain(wait=False)
    assert timer.totals == {**NONE, "data": 3.0, "sampling": 2.0}
    assert waits == []
    assert timer.interval() == {**NONE, "data": 3.0, "sampling": 6.0, "forward": 6.0}
    assert timer.interval() == NONE
    assert waits == [clock.now]  # for the last event, which is after all others
