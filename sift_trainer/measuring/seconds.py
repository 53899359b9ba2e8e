"""Seconds of work on a device, and of several pieces of work that take turns."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import torch

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

_TURN_SECONDS = 0.05
_MOST_CALLS = 10


def timed(work: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """What ``work`` returns, and the seconds until the device has finished it."""
    _wait_for(device)
    begin = time.perf_counter()
    result = work()
    _wait_for(device)
    return result, time.perf_counter() - begin


def take_turns(
    works: Mapping[K, Callable[[], Any]], device: torch.device, rounds: int, deadline: float
) -> list[dict[K, float]]:
    """Seconds of each piece of work in each round, after a warm-up. Every second round is in
    reversed order. After ``deadline``, of `time.monotonic`, no round but the first begins."""
    calls = {}
    for name, work in works.items():
        work()
        _, once = timed(work, device)
        calls[name] = max(1, min(_MOST_CALLS, round(_TURN_SECONDS / max(once, 1e-9))))
    measured: list[dict[K, float]] = []
    for number in range(rounds):
        if number and time.monotonic() > deadline:
            break
        order = list(works)[:: -1 if number % 2 else 1]
        measured.append({name: _mean_seconds(works[name], device, calls[name]) for name in order})
    return measured


def _mean_seconds(work: Callable[[], Any], device: torch.device, calls: int) -> float:
    return timed(lambda: [work() for _ in range(calls)], device)[1] / calls


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
