"""Which ways to score rows exist for a model and its data, and a scorer for each."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from sift_trainer.arguments import SiftArguments, sift_settings
from sift_trainer.early_exit import exit_at
from sift_trainer.early_exit.adapter import ExitAdapter
from sift_trainer.measuring.passes import Passes
from sift_trainer.probe.results import Choice
from sift_trainer.scoring.criteria import CRITERIA, StatefulCriterion
from sift_trainer.selection.rows import Batch
from sift_trainer.sifted_model.scorer import Scorer
from sift_trainer.trainer import SiftMixin

DEFAULT_CRITERIA = ("predicted_loss", "loss", "entropy")


class Scorers:
    """A scorer for each choice.

    Attributes:
        choices: in the order of criterion, exit and token fraction.
        exact: the choice whose scores are exact per-sample losses; None if there are none.
    """

    def __init__(
        self,
        trainer: SiftMixin,
        batch: Batch,
        exits: Sequence[int] | None,
        criteria: Sequence[str] | None,
        fractions: Sequence[float],
        notes: list[str],
    ) -> None:
        self._settings = sift_settings(trainer.args)
        self._scorers: dict[Choice, Scorer] = {}
        self._learners: dict[Choice, StatefulCriterion] = {}
        self._features: dict[Choice, Tensor | None] = {}  # of the last batch
        rows = trainer._prepare_inputs(batch)
        adapter, last = exit_at(trainer.model, -1)

        def passes_for(choice: Choice) -> Passes:
            sifted = trainer.sifted_model_of(trainer.model, batch, self._sift(choice))
            return Passes(trainer, sifted)

        self.exact: Choice | None = Choice("loss", last)
        try:
            self.passes = passes_for(self.exact)
            self._add([self.exact], rows)
        except ValueError as error:
            if "loss" in (criteria or ()):
                raise
            self.passes, self.exact = passes_for(Choice("entropy", last)), None
            notes.append(f"exact losses: there are none to compare with: {error}")
        found = _all_exits(adapter, last) if exits is None else map(adapter.resolve, exits)
        layers = list(dict.fromkeys(found))
        if self._one_prediction(rows) and set(fractions) != {1.0}:
            notes.append("token fractions: none, as a sample has one labelled prediction")
            fractions = (1.0,)
        self.choices: list[Choice] = []
        for criterion in dict.fromkeys(criteria or DEFAULT_CRITERIA):
            choices = [Choice(criterion, k, share) for k in layers for share in fractions]
            self._sift(choices[0])  # raises for a criterion that does not exist
            state = CRITERIA[criterion].state
            if state is not None:
                if not state.learns_from_features() or self.exact is None:
                    reason = f"criterion {criterion!r} has a state, which only training gives it"
                    if criteria is not None:
                        raise ValueError(reason)
                    notes.append(reason)
                    continue
                choices = [Choice(criterion, k, max(fractions)) for k in layers]
                self._learners |= {each: state(self.passes.model) for each in choices}
            if CRITERIA[criterion].values is None:
                choices = [Choice(criterion, None)]
            try:
                self._add(choices, rows)
                self.choices += dict.fromkeys(choices)
            except ValueError as error:
                if criteria is not None:
                    raise
                notes.append(f"criterion {criterion!r}: {error}")
        if not self.choices:
            raise ValueError(
                f"no criterion of {DEFAULT_CRITERIA} scores {type(trainer.model).__name__}: "
                f"{'; '.join(notes)}"
            )

    def score(self, choice: Choice, rows: Mapping[str, Any], number: int) -> Tensor:
        """Scores (B,) of a batch; ``number`` seeds the token subset and the random control."""
        generator, scorer = torch.Generator().manual_seed(number), self._scorers[choice]
        if choice not in self._learners:
            return self.passes.score(scorer, rows, generator)
        found = self.passes.candidates(rows, generator, scorer, self._learners[choice])
        self._features[choice] = found.features
        return found.scores

    def learn(self, rows: Mapping[str, Any], losses: Tensor) -> None:
        """Let criteria learn from the exact losses (B,) of the batch that was scored last."""
        for choice, criterion in self._learners.items():
            self.passes.sifted.learn(rows, losses, self._features[choice], criterion)

    def learns(self, choice: Choice) -> bool:
        return choice in self._learners

    def _add(self, choices: Sequence[Choice], rows: Mapping[str, Any]) -> None:
        for choice in choices:
            self._scorers[choice] = self.passes.sifted.scorer_for(self._sift(choice))
        self.score(choices[-1], rows, 0)

    def _sift(self, choice: Choice) -> SiftArguments:
        changes: dict[str, Any] = {
            "sift_criterion": choice.criterion,
            "sift_exit_layer": choice.exit_layer or 1,
            "sift_token_fraction": choice.token_fraction,
        }
        return SiftArguments(**{**self._settings, **changes})

    def _one_prediction(self, rows: Mapping[str, Any]) -> bool:
        task = self.passes.sifted.facts.task
        return task.labelled(rows) and bool((task.counts(task.labels(rows)) <= 1).all())


def _all_exits(adapter: ExitAdapter, last: int) -> list[int]:
    found = []
    for k in range(1, last):
        with suppress(ValueError):  # some models only have the last exit
            found.append(adapter.resolve(k))
    return [*found, last]
