"""The order in which candidates are drawn: an epoch has as many updates as the stock Trainer's."""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, Sampler

from sift_trainer.selection.schedule import num_candidates

_APART = 10**6  # between the epochs whose orders the passes over the data take


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
        whole, rest = divmod(len(self.sampler), self.kept)
        drawn = num_candidates(self.kept, self.keep_ratio)
        return whole * drawn + num_candidates(rest, self.keep_ratio)

    def __iter__(self) -> Iterator[int]:
        own = self._pass(self.epoch)
        groups = [own[begin : begin + self.kept] for begin in range(0, len(own), self.kept)]
        sizes = [num_candidates(len(group), self.keep_ratio) - len(group) for group in groups]
        others = self._others(sum(sizes))
        turns = list(range(len(groups)))
        lengths = getattr(self.sampler, "lengths", None)  # the sampler groups by length
        if lengths is not None:
            others = others[np.argsort([-lengths[row] for row in others], kind="stable")]
            turns.sort(key=lambda turn: -max(lengths[row] for row in groups[turn]))
        ends = np.cumsum([sizes[turn] for turn in turns])
        added = dict(zip(turns, np.split(others, ends[:-1]), strict=True)) if turns else {}
        self.epoch += 1
        for turn, group in enumerate(groups):
            yield from group.tolist()
            yield from added[turn].tolist()

    def _pass(self, epoch: int) -> "np.ndarray[Any, Any]":
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)
        return np.fromiter(self.sampler, dtype=np.int64)

    def _others(self, count: int) -> "np.ndarray[Any, Any]":
        """``count`` samples in the order of further passes. They begin in the middle: an order
        that is the same in each pass must not give a batch its own samples again. The random state
        is restored, because some samplers draw the next epoch's order from it."""
        passes = math.ceil(count / max(1, len(self.sampler)))
        generator = getattr(self.sampler, "generator", None)
        state = None if generator is None else generator.get_state()
        with torch.random.fork_rng([]):
            orders = [self._pass(self.epoch + _APART * (turn + 1)) for turn in range(passes)]
        if generator is not None:
            generator.set_state(state)
        rolled = [np.roll(order, -(len(order) // 2)) for order in orders]
        return np.concatenate(rolled)[:count] if rolled else np.empty(0, dtype=np.int64)


class RepeatedStream(IterableDataset[Any]):
    """A stream whose epoch is 1 / keep_ratio passes of ``data``, which may have no length."""

    def __init__(self, data: Any, keep_ratio: float) -> None:
        self.data, self.passes = data, 1 / keep_ratio
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return round(len(self.data) * self.passes)  # a TypeError if the data has no length

    def __iter__(self) -> Iterator[Any]:
        drawn = 0
        for row in self._pass(0):
            drawn += 1
            yield row
        left = round(drawn * self.passes) - drawn
        for turn in range(1, math.ceil(self.passes)):
            for row in islice(self._pass(turn), left):
                left -= 1
                yield row

    def _pass(self, turn: int) -> Iterator[Any]:
        if hasattr(self.data, "set_epoch"):
            self.data.set_epoch(self.epoch * math.ceil(self.passes) + turn)
        return iter(self.data)
