"""What a probe does with each batch of candidates, and what all of them come to."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sift_trainer.measuring import theory
from sift_trainer.measuring.choices import comparable
from sift_trainer.measuring.gradients import Gradients, inner, length
from sift_trainer.probe.choices import Scorers
from sift_trainer.probe.figures import Collected, Notes, attempt, figures_of
from sift_trainer.probe.results import Choice, Figures
from sift_trainer.probe.turns import Spread, take_turns
from sift_trainer.selection.choosing import choose_rows, select_top_k, without_top
from sift_trainer.selection.rows import Batch, num_rows, take_rows
from sift_trainer.selection.schedule import num_kept, num_skipped
from sift_trainer.trainer import SiftMixin

_STEP = Choice("forward and backward", None)


class Collector:
    """Measures batch after batch; in the state of `untouched`.

    Args:
        trainer: whose step it is.
        scorers: for its model.
        scales: AdamW's preconditioner, see `adam_scales`; None without.
        notes: gets why a figure is not there.

    Attributes:
        batches: scored so far.
        gradient_batches: of which gradients were taken.
        norm_batches: of which gradients of single rows were.
        rounds: of timing.
        step_seconds: forward and backward of the kept rows.
    """

    def __init__(
        self, trainer: SiftMixin, scorers: Scorers, scales: list[Tensor] | None, notes: Notes
    ) -> None:
        self.trainer, self.scorers, self.scales, self.notes = trainer, scorers, scales, notes
        self.gradients = Gradients(trainer, scorers.sifted)
        self.batches = self.gradient_batches = self.norm_batches = self.rounds = 0
        self.step_seconds = Spread(0.0, 0.0, 0.0)
        self._shares: dict[Choice, Spread] = {}
        self._found = {choice: Collected() for choice in scorers.choices}
        self._exact = Collected()
        self._random = Collected()
        self._norms: list[Tensor] = []
        self._margins = False

    def time(self, batch: Batch, rounds: int, deadline: float) -> None:
        """Measure scoring beside forward and backward of the kept rows, in turns on one batch."""
        rows = self.trainer._prepare_inputs(batch)
        few = take_rows(rows, torch.arange(self._kept(rows)))

        def step() -> None:
            self.gradients.model.train()
            self.gradients.forward_backward(few)
            self.gradients.forget()

        works: dict[Choice, Any] = {_STEP: step}
        for choice in self.scorers.choices:
            works[choice] = lambda choice=choice: self.scorers.score(choice, rows, 0)
        turns = take_turns(works, self.trainer.args.device, rounds, deadline)
        self.rounds = len(turns)
        self.step_seconds = Spread.of([seconds[_STEP] for seconds in turns])
        for choice in self.scorers.choices:
            shares = [seconds[choice] / seconds[_STEP] for seconds in turns]
            self._shares[choice] = Spread.of(shares)

    def measure(self, batch: Batch, held_out: Batch | None, single_rows: bool) -> None:
        """Score a batch by every choice.

        Args:
            held_out: another batch, towards whose loss the gradients of the rows that are kept are
                looked at; None to take no gradients.
            single_rows: whether to take the gradient of every row, too.
        """
        rows = self.trainer._prepare_inputs(batch)
        if self.batches == 0:
            self._margins = self.scorers.has_margins(rows)
        scores = {each: self._score(each, rows) for each in self.scorers.choices}
        for choice, found in self._found.items():
            self._add(found, scores[choice])
        exact = self.scorers.exact
        if exact is not None:
            self._add(self._exact, scores[exact] if exact in scores else self._score(exact, rows))
        if held_out is not None:
            self._descend(rows, self.trainer._prepare_inputs(held_out))
            self.gradient_batches += 1
        if held_out is not None and single_rows:
            self._norms.append(self._row_norms(rows))
            self.norm_batches += 1
        self.batches += 1

    def losses(self) -> Tensor | None:
        """Exact losses (n,) of all labelled samples; None if there are none."""
        if self.scorers.exact is None:
            return None
        losses = torch.cat(self._exact.scores)
        return losses[comparable(losses, losses)]

    def loss_ratio(self) -> float | None:
        """rho_2 (Definition 5.6) at the model's weights."""
        losses = self.losses()
        if losses is None:
            return None
        return attempt(self.notes, "rho_2", lambda: theory.loss_ratio(losses))

    def figures(self) -> tuple[Figures, ...]:
        """Of each choice."""
        if not self._margins:
            self.notes["beta"] = (
                "Theorem 6.2 is about the loss of one prediction by a linear head; here a sample's "
                "loss is another"
            )
        return tuple(
            figures_of(
                choice,
                found,
                None if self.scorers.exact is None else self._exact,
                self._random,
                self._norms,
                len(found.kept[0]) / len(found.scores[0]),
                self._shares[choice],
                self.step_seconds.value,
                self._margins and choice.token_fraction == 1,
                self.notes,
            )
            for choice, found in self._found.items()
        )

    def _kept(self, rows: Mapping[str, Any]) -> int:
        return num_kept(num_rows(rows), self.trainer.sift.sift_keep_ratio)

    def _score(self, choice: Choice, rows: Mapping[str, Any]) -> Tensor:
        return self.scorers.score(choice, rows, self.batches).float().cpu()

    def _add(self, found: Collected, scores: Tensor) -> None:
        kept = num_kept(len(scores), self.trainer.sift.sift_keep_ratio)
        skip = num_skipped(len(scores), kept, self.trainer.sift.sift_skip_top)
        found.scores.append(scores)
        found.kept.append(select_top_k(without_top(scores, kept, skip), kept))

    def _descend(self, rows: Mapping[str, Any], held_out: Mapping[str, Any]) -> None:
        """Inner products of a held-out gradient with those of the rows that training would choose
        and of random ones."""
        target = self.gradients.of(held_out)
        draw = torch.Generator().manual_seed(self.batches)
        at_random = torch.randperm(num_rows(rows), generator=draw)[: self._kept(rows)]
        # Several choices may keep the same rows, whose gradient is taken once.
        by_rows: dict[tuple[int, ...], list[Collected]] = {}
        by_rows[tuple(at_random.sort().values.tolist())] = [self._random]
        for found in self._found.values():
            # A draw of its own: of the same numbers, rows at random would be those of the control.
            chosen = choose_rows(
                found.scores[-1], self.trainer.sift, self.trainer._generator(self.batches)
            ).rows
            by_rows.setdefault(tuple(chosen.tolist()), []).append(found)
        for kept, choosing in by_rows.items():
            gradient = self.gradients.of(rows, torch.tensor(kept))
            measured = [(inner(target, gradient), length(gradient))]
            if self.scales is not None:
                adam = inner(target, gradient, self.scales), length(gradient, self.scales)
                measured.append(adam)
            for found in choosing:
                for updates, (descent, norm) in zip(found.updates, measured, strict=False):
                    updates.descents.append(descent)
                    updates.lengths.append(norm)

    def _row_norms(self, rows: Mapping[str, Any]) -> Tensor:
        single = [torch.tensor([row]) for row in range(num_rows(rows))]
        return torch.tensor(
            [length(self.gradients.of(rows, row, training=False)) for row in single],
            dtype=torch.float64,
        )
