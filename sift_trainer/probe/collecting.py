"""Measures batch after batch of candidates, by every choice."""

from collections.abc import Mapping
from typing import Any

import torch

from sift_trainer.measuring import theory
from sift_trainer.measuring.agreement import comparable, if_defined
from sift_trainer.measuring.gradients import AdamScales, descent_of
from sift_trainer.measuring.seconds import take_turns
from sift_trainer.probe.numbers import (
    Measured,
    descent_figures,
    median_of_rounds,
    with_comparison,
)
from sift_trainer.probe.recommend import break_even
from sift_trainer.probe.results import Choice, Estimate, Figures
from sift_trainer.probe.scorers import Scorers
from sift_trainer.selection.choosing import choose_rows
from sift_trainer.selection.rows import Batch, num_rows, take_rows
from sift_trainer.selection.rules import select_top_k, without_top
from sift_trainer.selection.schedule import num_kept, num_skipped
from sift_trainer.trainer import SiftMixin

_STEP = Choice("forward and backward", None)


class Collector:
    """Collects the measurements of all choices. It needs the context `untouched`."""

    def __init__(self, trainer: SiftMixin, scorers: Scorers, scales: AdamScales | None) -> None:
        self.trainer, self.scorers, self.scales = trainer, scorers, scales
        self.passes = scorers.passes
        self.batches = self.gradient_batches = self.rounds = 0
        self._shares: dict[Choice, Estimate] = {}
        exact = [] if scorers.exact is None else [scorers.exact]
        self._found = {choice: Measured() for choice in [*scorers.choices, *exact]}
        self._exact = self._found[exact[0]] if exact else None
        self._random = Measured()

    def time(self, batch: Batch, rounds: int, deadline: float) -> None:
        """Time scoring, and forward and backward of the kept rows, in turns on one batch."""
        rows = self.trainer._prepare_inputs(batch)
        few = take_rows(rows, torch.arange(self._num_kept(rows)))
        works: dict[Choice, Any] = {_STEP: lambda: self.passes.gradient(few)}
        for choice in self.scorers.choices:
            works[choice] = lambda choice=choice: self.scorers.score(choice, rows, 0)
        turns = take_turns(works, self.trainer.args.device, rounds, deadline)
        self.rounds = len(turns)
        self.step_seconds = median_of_rounds([seconds[_STEP] for seconds in turns])
        for choice in self.scorers.choices:
            shares = [seconds[choice] / seconds[_STEP] for seconds in turns]
            self._shares[choice] = median_of_rounds(shares)

    def measure(self, batch: Batch, held_out: Batch | None) -> None:
        """Score a batch by every choice. Take gradients too if there is a held-out batch."""
        rows = self.trainer._prepare_inputs(batch)
        kept = self._num_kept(rows)
        skip = num_skipped(num_rows(rows), kept, self.trainer.sift.sift_skip_top)
        for choice, found in self._found.items():
            scores = self.scorers.score(choice, rows, self.batches).float().cpu()
            found.scores.append(scores)
            found.kept.append(select_top_k(without_top(scores, kept, skip), kept))
        if self._exact is not None:
            self.scorers.learn(rows, self._exact.scores[-1].to(self.trainer.args.device))
        if held_out is not None:
            self._add_descents(rows, self.trainer._prepare_inputs(held_out))
            self.gradient_batches += 1
        self.batches += 1

    def loss_ratio(self) -> float | None:
        if self._exact is None:
            return None
        losses = torch.cat(self._exact.scores)
        return if_defined(theory.loss_ratio, losses[comparable(losses, losses)])

    def figures(self, choice: Choice) -> Figures:
        found, share = self._found[choice], self._shares[choice]
        kept_share = len(found.kept[0]) / len(found.scores[0])
        costs = kept_share, share.value, self.step_seconds.value
        figures = Figures(
            choice=choice,
            scoring_share=share,
            break_even=break_even(share.value),
            descent=descent_figures(found.descents, self._random.descents, *costs),
        )
        if self._exact is None:
            return figures
        # Learned scores are compared once they have learned from half of the batches.
        begin = self.batches // 2 if self.scorers.learns(choice) else 0
        return with_comparison(figures, found.since(begin), self._exact.since(begin))

    def _num_kept(self, rows: Mapping[str, Any]) -> int:
        return num_kept(num_rows(rows), self.trainer.sift.sift_keep_ratio)

    def _add_descents(self, rows: Mapping[str, Any], held_out: Mapping[str, Any]) -> None:
        """Descent of the held-out loss by the rows that training would choose, and by random ones.

        Several choices may keep the same rows. Their gradient is taken once.
        """
        target = self.passes.gradient(held_out)
        draw = torch.Generator().manual_seed(self.batches)
        at_random = torch.randperm(num_rows(rows), generator=draw)[: self._num_kept(rows)]
        by_rows = {tuple(at_random.sort().values.tolist()): [self._random]}
        for choice in self.scorers.choices:
            # A generator of its own: with the same numbers, random rows would equal the control's.
            generator = self.trainer._generator(self.batches)
            found = self._found[choice]
            chosen = choose_rows(found.scores[-1], self.trainer.sift, generator).rows
            by_rows.setdefault(tuple(chosen.tolist()), []).append(found)
        for kept, choosing in by_rows.items():
            gradient = self.passes.gradient(rows, torch.tensor(kept))
            descent = descent_of(target, gradient, self.scales)
            for found in choosing:
                found.descents.append(descent)
