"""Measures batch after batch of candidates, by every choice."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sift_trainer.measuring import theory
from sift_trainer.measuring.agreement import Notes, comparable, number_or_note
from sift_trainer.measuring.gradients import AdamScales, descent_of, length
from sift_trainer.measuring.seconds import take_turns
from sift_trainer.probe.measurements import Estimate, median_of_rounds
from sift_trainer.probe.numbers import (
    Measured,
    descent_figures,
    gradient_norms,
    with_comparison,
)
from sift_trainer.probe.recommend import break_even
from sift_trainer.probe.results import Choice, Figures
from sift_trainer.probe.scorers import Scorers
from sift_trainer.selection.choosing import choose_rows, select_top_k, without_top
from sift_trainer.selection.rows import Batch, num_rows, take_rows
from sift_trainer.selection.schedule import num_kept, num_skipped
from sift_trainer.trainer import SiftMixin

_STEP = Choice("forward and backward", None)


class Collector:
    """Collects the measurements of all choices. It needs the context `untouched`.

    Args:
        trainer: whose steps are measured.
        scorers: for its model.
        scales: AdamW's preconditioner; None without second moments.
        notes: receives why a figure is missing.

    Attributes:
        batches: number of scored batches.
        gradient_batches: how many of them have gradients.
        norm_batches: how many of these have gradients of single rows.
        rounds: of timing.
        step_seconds: forward and backward of the kept rows.
    """

    def __init__(
        self, trainer: SiftMixin, scorers: Scorers, scales: AdamScales | None, notes: Notes
    ) -> None:
        self.trainer, self.scorers, self.scales, self.notes = trainer, scorers, scales, notes
        self.passes = scorers.passes
        self.batches = self.gradient_batches = self.rounds = 0
        self._shares: dict[Choice, Estimate] = {}
        self._found = {choice: Measured() for choice in scorers.choices}
        exact = scorers.exact
        self._exact = self._found[exact] if exact in self._found else Measured()
        self._random = Measured()
        self._norms: list[Tensor] = []
        self._margins = False

    @property
    def norm_batches(self) -> int:
        return len(self._norms)

    def time(self, batch: Batch, rounds: int, deadline: float) -> None:
        """Time scoring, and forward and backward of the kept rows, in turns on one batch."""
        rows = self.trainer._prepare_inputs(batch)
        few = take_rows(rows, torch.arange(self._num_kept(rows)))
        works: dict[Choice, Any] = {_STEP: lambda: self.passes.forward_backward(few)}
        for choice in self.scorers.choices:
            works[choice] = lambda choice=choice: self.scorers.score(choice, rows, 0)
        turns = take_turns(works, self.trainer.args.device, rounds, deadline)
        self.rounds = len(turns)
        self.step_seconds = median_of_rounds([seconds[_STEP] for seconds in turns])
        for choice in self.scorers.choices:
            shares = [seconds[choice] / seconds[_STEP] for seconds in turns]
            self._shares[choice] = median_of_rounds(shares)

    def measure(self, batch: Batch, held_out: Batch | None, single_rows: bool) -> None:
        """Score a batch by every choice.

        Args:
            held_out: a batch whose loss the updates should lower; None to take no gradients.
            single_rows: whether to take the gradient of every single row too.
        """
        rows = self.trainer._prepare_inputs(batch)
        if self.batches == 0:
            self._margins = self.scorers.has_margins(rows)
        for choice, found in self._found.items():
            self._add_scores(found, choice, rows)
        exact = self.scorers.exact
        if exact is not None and exact not in self._found:
            self._add_scores(self._exact, exact, rows)
        if held_out is not None:
            self._add_descents(rows, self.trainer._prepare_inputs(held_out))
            self.gradient_batches += 1
        if held_out is not None and single_rows:
            self._norms.append(self._row_norms(rows))
        self.batches += 1

    def loss_ratio(self) -> float | None:
        """rho_2 (Definition 5.6) at the model's weights; None without exact losses."""
        if self.scorers.exact is None:
            return None
        losses = torch.cat(self._exact.scores)
        labelled = losses[comparable(losses, losses)]
        return number_or_note(self.notes, "rho_2", lambda: theory.loss_ratio(labelled))

    def figures(self) -> tuple[Figures, ...]:
        """Figures of each choice."""
        if not self._margins:
            self.notes["beta"] = (
                "Theorem 6.2 is about the loss of one prediction by a linear head; here a sample's "
                "loss is another"
            )
        return tuple(self._figures(choice, found) for choice, found in self._found.items())

    def _figures(self, choice: Choice, found: Measured) -> Figures:
        share, seconds = self._shares[choice], self.step_seconds.value
        costs = len(found.kept[0]) / len(found.scores[0]), share.value, seconds
        figures = Figures(
            choice=choice,
            scoring_share=share,
            break_even=break_even(share.value),
            gradient_norms=gradient_norms(found.kept, self._norms),
            descent=descent_figures(found.plain, self._random.plain, *costs),
            adam_descent=descent_figures(found.adam, self._random.adam, *costs),
        )
        if self.scorers.exact is None:
            return figures
        margins = self._margins and choice.token_fraction == 1
        return with_comparison(figures, found, self._exact, margins, self.notes)

    def _num_kept(self, rows: Mapping[str, Any]) -> int:
        return num_kept(num_rows(rows), self.trainer.sift.sift_keep_ratio)

    def _add_scores(self, found: Measured, choice: Choice, rows: Mapping[str, Any]) -> None:
        scores = self.scorers.score(choice, rows, self.batches).float().cpu()
        kept = self._num_kept(rows)
        skip = num_skipped(len(scores), kept, self.trainer.sift.sift_skip_top)
        found.scores.append(scores)
        found.kept.append(select_top_k(without_top(scores, kept, skip), kept))

    def _add_descents(self, rows: Mapping[str, Any], held_out: Mapping[str, Any]) -> None:
        """Descent of the held-out loss by the rows that training would choose, and by random ones.

        Several choices may keep the same rows. Their gradient is taken once.
        """
        target = self.passes.gradient(held_out)
        draw = torch.Generator().manual_seed(self.batches)
        at_random = torch.randperm(num_rows(rows), generator=draw)[: self._num_kept(rows)]
        by_rows = {tuple(at_random.sort().values.tolist()): [self._random]}
        for found in self._found.values():
            # A generator of its own: with the same numbers, random rows would equal the control's.
            generator = self.trainer._generator(self.batches)
            chosen = choose_rows(found.scores[-1], self.trainer.sift, generator).rows
            by_rows.setdefault(tuple(chosen.tolist()), []).append(found)
        for kept, choosing in by_rows.items():
            gradient = self.passes.gradient(rows, torch.tensor(kept))
            plain = descent_of(target, gradient)
            adam = [descent_of(target, gradient, self.scales)] if self.scales is not None else []
            for found in choosing:
                found.plain.append(plain)
                found.adam += adam

    def _row_norms(self, rows: Mapping[str, Any]) -> Tensor:
        """Gradient norm (B,) of every single row, in evaluation mode."""
        single = [torch.tensor([row]) for row in range(num_rows(rows))]
        norms = [length(self.passes.gradient(rows, row, training=False)) for row in single]
        return torch.tensor(norms, dtype=torch.float64)
