"""The order in which candidates are drawn: an epoch has as many updates as the stock Trainer's."""

import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, Sampler

from sift_trainer.selection.schedule import num_candidates, num_drawn

EPOCHS_APART = 10**6  # between the epochs whose orders the passes over the data have


class CandidateSampler(Sampler[int]):
    """Indices for batches of ``num_candidates(kept, keep_ratio)`` samples.

    The first ``kept`` samples of a batch are those of the stock Trainer's batch, so a step that
    does not sift trains on the same samples. The others come from further passes of ``sampler``
    over the data. An epoch draws 1 / keep_ratio times the data in as many batches as a stock epoch.

    Args:
        sampler: gives the stock Trainer's order, anew for each pass.
        kept: samples of a stock batch.
    """

    def __init__(self, sampler: Any, kept: int, keep_ratio: float) -> None:
        self.sampler, self.kept, self.keep_ratio = sampler, kept, keep_ratio
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return num_drawn(len(self.sampler), self.kept, self.keep_ratio)

    def __iter__(self) -> Iterator[int]:
        own = self._pass(self.epoch)
        groups = [own[begin : begin + self.kept] for begin in range(0, len(own), self.kept)]
        sizes = [num_candidates(len(group), self.keep_ratio) - len(group) for group in groups]
        others = self._others(sum(sizes))
        turns = list(range(len(groups)))
        lengths = getattr(self.sampler, "lengths", None)  # the sampler groups by length
        if lengths is not None:
            others = sorted(others, key=lambda row: -lengths[row])
            turns.sort(key=lambda turn: -max(lengths[row] for row in groups[turn]))
        added = deal([(groups[turn], sizes[turn]) for turn in turns], others)
        if lengths is not None:  # dealt in another order than the batches come in
            by_turn = dict(zip(turns, added, strict=True))
            added = (by_turn[turn] for turn in range(len(groups)))
        self.epoch += 1
        for group, more in zip(groups, added, strict=True):
            yield from group
            yield from more

    def _pass(self, epoch: int) -> list[int]:
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)
        return [int(row) for row in self.sampler]

    def _others(self, count: int) -> list[int]:
        """``count`` samples in the order of further passes. Each begins in the middle, as a sampler
        may give the same order in each pass. The sampler is then as before, and so are the global
        random states, from which its next order may come."""
        passes = math.ceil(count / max(1, len(self.sampler)))
        found: list[int] = []
        with _random_states_kept(self.sampler):
            for turn in range(passes):
                order = self._pass(self.epoch + EPOCHS_APART * (turn + 1))
                found += order[len(order) // 2 :] + order[: len(order) // 2]
        return found[:count]


def deal(groups: Sequence[tuple[Sequence[int], int]], rows: Sequence[int]) -> Iterator[list[int]]:
    """For each group and number, that many of the ``rows`` in their order. A row that the group has
    already waits for a later group, as long as there are others."""
    waiting: deque[int] = deque()
    source = iter(rows)
    for group, count in groups:
        taken, found = set(group), list[int]()
        for _ in range(len(waiting)):
            row = waiting.popleft()
            if row in taken or len(found) == count:
                waiting.append(row)
            else:
                taken.add(row)
                found.append(row)
        for row in source if len(found) < count else ():
            if row in taken:
                waiting.append(row)
                continue
            taken.add(row)
            found.append(row)
            if len(found) == count:
                break
        while len(found) < count:  # the data has fewer samples than a batch
            found.append(waiting.popleft())
        yield found


@contextmanager
def _random_states_kept(sampler: Any) -> Iterator[None]:
    """Restore the sampler's attributes, the states of its generators and the global random states
    of the CPU at the end."""
    attributes = dict(vars(sampler))
    states: list[Callable[[], object]] = []
    for value in attributes.values():
        if isinstance(value, torch.Generator):
            states.append(partial(value.set_state, value.get_state()))
        elif isinstance(value, random.Random):
            states.append(partial(value.setstate, value.getstate()))
        elif isinstance(value, np.random.Generator):
            bits = value.bit_generator
            states.append(partial(setattr, bits, "state", bits.state))
    states.append(partial(random.setstate, random.getstate()))
    states.append(partial(np.random.set_state, np.random.get_state()))
    with torch.random.fork_rng([]):
        yield
    vars(sampler).update(attributes)
    for restore in states:
        restore()


class RepeatedStream(IterableDataset[Any]):
    """A stream that is passed again and again until an epoch has the batches of a stock epoch of
    ``data``, which may have no length. Its epochs are about 1 / keep_ratio passes in the order of
    the stock epoch.

    Args:
        kept: samples of a stock batch, of one process.
    """

    def __init__(self, data: Any, kept: int, keep_ratio: float) -> None:
        self.data, self.kept, self.keep_ratio = data, kept, keep_ratio

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.data, "set_epoch"):
            self.data.set_epoch(epoch)

    def __len__(self) -> int:
        return num_drawn(len(self.data), self.kept, self.keep_ratio)  # TypeError without a length

    def __iter__(self) -> Iterator[Any]:
        count = 0
        for row in self.data:
            count += 1
            yield row
        left = num_drawn(count, self.kept, self.keep_ratio) - count
        while left > 0:
            before = left
            for row in islice(self.data, left):
                left -= 1
                yield row
            if left == before:  # a stream that can be read once
                return
