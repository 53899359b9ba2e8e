"""Seconds per phase, by a clock that the tests wind."""

import time

import pytest
import torch

from sift_trainer.measuring.timing import PHASES, StepTimer

NONE = dict.fromkeys(PHASES, 0.0)


class Clock:
    """Stands still but for what it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def test_phases_add_up(clock: Clock) -> None:
    timer = StepTimer()
    for seconds in (2.0, 3.0):
        with timer.span("forward"):
            clock.now += seconds
        clock.now += 10  # between phases
        timer.start("backward")
        clock.now += 2 * seconds
        timer.stop("backward")
    assert timer.totals == {**NONE, "forward": 5.0, "backward": 10.0}


def test_interval_is_since_the_last_and_totals_since_the_start(clock: Clock) -> None:
    timer = StepTimer()
    with timer.span("data"):
        clock.now += 1
    assert timer.interval() == {**NONE, "data": 1.0}
    assert timer.interval() == NONE
    with timer.span("data"):
        clock.now += 4
    with timer.span("optimizer"):
        clock.now += 8
    assert timer.interval() == {**NONE, "data": 4.0, "optimizer": 8.0}
    assert timer.totals == {**NONE, "data": 5.0, "optimizer": 8.0}


def test_phase_that_spans_two_intervals_counts_where_it_ends(clock: Clock) -> None:
    timer = StepTimer()
    timer.start("backward")
    clock.now += 2
    assert timer.interval() == NONE
    clock.now += 3
    timer.stop("backward")
    assert timer.interval() == {**NONE, "backward": 5.0}


def test_phase_that_was_not_started_is_left_alone(clock: Clock) -> None:
    timer = StepTimer()
    timer.stop("backward")
    with timer.span("forward"):
        clock.now += 1
    clock.now += 5
    timer.stop("forward")  # a second time
    assert timer.totals == {**NONE, "forward": 1.0}


def test_phases_within_one_another_each_count_their_own_time(clock: Clock) -> None:
    timer = StepTimer()
    with timer.span("data"):
        clock.now += 1
        with timer.span("sampling"):
            clock.now += 2
        clock.now += 4
    assert timer.totals == {**NONE, "data": 7.0, "sampling": 2.0}


def test_start_anew_forgets_the_first_start(clock: Clock) -> None:
    timer = StepTimer()
    timer.start("optimizer")
    clock.now += 100
    timer.start("optimizer")
    clock.now += 1
    timer.stop("optimizer")
    assert timer.totals == {**NONE, "optimizer": 1.0}


def test_phase_ends_with_its_exception(clock: Clock) -> None:
    timer = StepTimer()

    def fail() -> None:
        with timer.span("sampling"):
            clock.now += 2
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        fail()
    clock.now += 50
    timer.stop("sampling")
    assert timer.totals == {**NONE, "sampling": 2.0}


def test_accelerator_is_waited_for_only_when_read(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []

    class Event:
        """Of a device whose clock is the same one; counts milliseconds, as events do."""

        def __init__(self, device: torch.device, enable_timing: bool) -> None:
            assert (device.type, enable_timing) == ("cuda", True)

        def record(self) -> None:
            self.at = clock.now

        def synchronize(self) -> None:
            waits.append(self.at)

        def elapsed_time(self, end: "Event") -> float:
            return (end.at - self.at) * 1000

    monkeypatch.setattr(torch, "Event", Event)
    timer = StepTimer()
    timer.device = torch.device("cuda")
    for _ in range(3):
        with timer.span("data"):  # the host waits for the loader: read from its own clock
            clock.now += 1
        for phase in ("sampling", "forward"):
            with timer.span(phase):
                clock.now += 2
    assert waits == []
    assert timer.totals == {**NONE, "data": 3.0}
    assert timer.interval() == {**NONE, "data": 3.0, "sampling": 6.0, "forward": 6.0}
    assert waits == [clock.now]  # for the last event, which is after all others
    assert timer.interval() == NONE
    assert waits == [clock.now]


def test_finished_phases_are_read_without_waiting(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Event:
        """Of a device that has come as far as `reached`; waiting for it fails."""

        reached = 0.0

        def __init__(self, device: torch.device, enable_timing: bool) -> None: ...

        def record(self) -> None:
            self.at = clock.now

        def query(self) -> bool:
            return self.at <= Event.reached

        def elapsed_time(self, end: "Event") -> float:
            return (end.at - self.at) * 1000

    monkeypatch.setattr(torch, "Event", Event)
    timer = StepTimer()
    timer.device = torch.device("cuda")
    for phase in ("sampling", "forward"):
        with timer.span(phase):
            clock.now += 2
    timer.drain(wait=False)
    assert timer.totals == NONE
    Event.reached = clock.now - 1
    timer.drain(wait=False)
    assert timer.totals == {**NONE, "sampling": 2.0}
    Event.reached = clock.now
    timer.drain(wait=False)
    assert timer.totals == {**NONE, "sampling": 2.0, "forward": 2.0}
