"""Seconds of several pieces of work that take turns on one device."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

K = TypeVar("K", bound=Hashable)
Work = Callable[[], Any]

_TURN_SECONDS = 0.05
_MOST_CALLS = 10


@dataclass(frozen=True)
class Spread:
    """A median over rounds.

    Attributes:
        value: the median.
        low: the lowest.
        high: the highest.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


def take_turns(
    works: Mapping[K, Work], device: torch.device, rounds: int, deadline: float
) -> list[dict[K, float]]:
    """Seconds of each piece of work in each round; in every second round the order is reversed.

    Each is done before, uncounted; what is over in no time is done several times in a turn.
    No round but the first is begun after ``deadline``, of
    `time.monotonic`.
    """
    calls = {}
    for name, work in works.items():
        work()
        once = seconds_of(work, device, 1)
        calls[name] = max(1, min(_MOST_CALLS, round(_TURN_SECONDS / max(once, 1e-9))))
    measured: list[dict[K, float]] = []
    for number in range(rounds):
        if number and time.monotonic() > deadline:
            break
        order = list(works)[:: -1 if number % 2 else 1]
        measured.append({name: seconds_of(works[name], device, calls[name]) for name in order})
    return measured


def seconds_of(work: Work, device: torch.device, calls: int) -> float:
    """Seconds of a call, the mean of so many.

    On an accelerator between two events, behind a call that is not counted: the first counted one
    then meets a device that is at work, as in training.
    """
    if device.type == "cpu":
        begin = time.perf_counter()
        for _ in range(calls):
            work()
        return (time.perf_counter() - begin) / calls
    marks = [torch.Event(device, enable_timing=True) for _ in range(2)]
    work()
    marks[0].record()
    for _ in range(calls):
        work()
    marks[1].record()
    marks[1].synchronize()
    return float(marks[0].elapsed_time(marks[1])) / 1000 / calls
