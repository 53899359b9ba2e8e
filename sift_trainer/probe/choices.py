"""Which ways to score there are for a model and its data, and a scorer for each."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sift_trainer.arguments import SiftArguments, sift_settings
from sift_trainer.early_exit import exit_at
from sift_trainer.probe.figures import Notes
from sift_trainer.probe.results import Choice
from sift_trainer.scoring.criteria import CRITERIA
from sift_trainer.scoring.tasks import ClassIds
from sift_trainer.selection.rows import Batch
from sift_trainer.sifted_model.no_trace import inference
from sift_trainer.trainer import SiftMixin

DEFAULT_CRITERIA = ("loss", "entropy")


class Scorers:
    """A scorer for each choice.

    Attributes:
        sifted: what the first batch said of the model.
        choices: in the order of criterion, exit and token fraction.
        exact: the choice whose scores are exact per-sample losses; None if there are none.

    Args:
        trainer: whose model it is.
        batch: the first one of candidates, as the dataloader yields it.
        exits: block numbers, -1 for the last; None for all.
        criteria: None for loss and entropy, where they have a meaning.
        fractions: token fractions.
        notes: gets what is left out, and why.

    Raises:
        ValueError: for a model that has no such exit, a criterion that is not registered or has no
            meaning for it, and what else cannot be sifted.
    """

    def __init__(
        self,
        trainer: SiftMixin,
        batch: Batch,
        exits: Sequence[int] | None,
        criteria: Sequence[str] | None,
        fractions: Sequence[float],
        notes: Notes,
    ) -> None:
        self.trainer = trainer
        self._settings = sift_settings(trainer.args)
        for criterion in criteria or ():
            self._sift(Choice(criterion, None))  # before the data is asked for
        adapter, last = exit_at(trainer.model, -1)
        exact = Choice("loss", last)
        rows = trainer._prepare_inputs(batch)
        try:
            self.sifted = trainer.sifted_model_of(trainer.model, batch, self._sift(exact))
            self._scorers = {exact: self.sifted.scorer_for(self._sift(exact))}
            self.score(exact, rows, 0)
            self.exact: Choice | None = exact
        except ValueError as error:
            if "loss" in (criteria or ()):
                raise
            self.sifted = trainer.sifted_model_of(
                trainer.model, batch, self._sift(Choice("entropy", last))
            )
            self._scorers, self.exact = {}, None
            notes["exact losses"] = f"nothing is compared with them: {error}"
        found = _exits(trainer.model, last) if exits is None else list(exits)
        resolved = dict.fromkeys(adapter.resolve(k) for k in found)
        if self._one_prediction(rows) and set(fractions) != {1.0}:
            notes["token fractions"] = "a sample has one labelled prediction: nothing to take from"
            fractions = (1.0,)
        self.choices: list[Choice] = []
        for criterion in dict.fromkeys(criteria or DEFAULT_CRITERIA):
            if CRITERIA[criterion].values is None:
                self._add(Choice(criterion, None))
                continue
            try:
                for k in resolved:
                    for fraction in dict.fromkeys(fractions):
                        self._add(Choice(criterion, k, fraction))
                self.score(self.choices[-1], rows, 0)
            except ValueError as error:
                if criteria is not None:
                    raise
                self.choices = [each for each in self.choices if each.criterion != criterion]
                notes.setdefault(f"criterion {criterion!r}", str(error))
        if not self.choices:
            raise ValueError(
                f"no criterion of {DEFAULT_CRITERIA} scores {type(trainer.model).__name__}: "
                f"{'; '.join(notes.values())}"
            )

    def score(self, choice: Choice, rows: Mapping[str, Any], number: int) -> Tensor:
        """Scores (B,) of a batch on the model's device.

        Args:
            number: seed of the token subset and of the random control.
        """
        generator = torch.Generator().manual_seed(number)
        with inference(self.sifted.module), self.trainer.accelerator.autocast():
            # Never compiled: the steps that scoring is held against are not either.
            return self._scorers[choice](self.sifted.passes.forward, rows, generator)

    def has_margins(self, rows: Mapping[str, Any]) -> bool:
        """Whether a sample's loss is that of one class id by a linear head (Theorem 6.2)."""
        task = self.sifted.facts.task
        return (
            self.exact is not None
            and isinstance(task, ClassIds)
            and task.smoothing == 0
            and task.labels(rows).dim() == 1
            and _ends_linearly(self.sifted.module)
        )

    def _add(self, choice: Choice) -> None:
        if choice not in self._scorers:
            self._scorers[choice] = self.sifted.scorer_for(self._sift(choice))
        self.choices.append(choice)

    def _sift(self, choice: Choice) -> SiftArguments:
        changes: dict[str, Any] = {
            "sift_criterion": choice.criterion,
            "sift_exit_layer": choice.exit_layer or 1,
            "sift_token_fraction": choice.token_fraction,
        }
        return SiftArguments(**{**self._settings, **changes})

    def _one_prediction(self, rows: Mapping[str, Any]) -> bool:
        task = self.sifted.facts.task
        if not task.labelled(rows):
            return False
        return bool((task.counts(task.labels(rows)) <= 1).all())


def _exits(model: nn.Module, last: int) -> list[int]:
    """All exits that a model has: some have the last one only."""
    adapter, _ = exit_at(model, -1)
    found = []
    for k in range(1, last):
        try:
            found.append(adapter.resolve(k))
        except ValueError:
            continue
    return [*found, last]


def _ends_linearly(model: nn.Module) -> bool:
    """Whether the last module with parameters of its own is a linear layer."""
    owners = [each for each in model.modules() if any(True for _ in each.parameters(recurse=False))]
    return bool(owners) and isinstance(owners[-1], nn.Linear)
