"""Which ways to score rows exist for a model and its data, and a scorer for each."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sift_trainer.arguments import SiftArguments, sift_settings
from sift_trainer.early_exit import exit_at
from sift_trainer.measuring.agreement import Notes
from sift_trainer.measuring.passes import Passes
from sift_trainer.probe.results import Choice
from sift_trainer.scoring.criteria import CRITERIA
from sift_trainer.scoring.tasks import ClassIds
from sift_trainer.selection.rows import Batch
from sift_trainer.sifted_model.scorer import Scorer
from sift_trainer.trainer import SiftMixin

DEFAULT_CRITERIA = ("loss", "entropy")


class Scorers:
    """A scorer for each choice.

    Attributes:
        passes: of the trainer's model.
        choices: in the order of criterion, exit and token fraction.
        exact: the choice whose scores are exact per-sample losses; None if there are none.

    Args:
        trainer: the trainer of the model.
        batch: the first batch of candidates, as the dataloader yields it.
        exits: block numbers, -1 for the last; None for all.
        criteria: None for loss and entropy, as far as they work for the model.
        fractions: token fractions.
        notes: receives what is left out, and why.

    Raises:
        ValueError: for an exit that the model does not have, a criterion that does not work for it,
            and everything else that cannot be sifted.
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
        self._settings = sift_settings(trainer.args)
        self._scorers: dict[Choice, Scorer] = {}
        rows = trainer._prepare_inputs(batch)
        adapter, last = exit_at(trainer.model, -1)
        self.exact: Choice | None = Choice("loss", last)
        try:
            sifted = trainer.sifted_model_of(trainer.model, batch, self._sift(self.exact))
            self.passes = Passes(trainer, sifted)
            self._add([self.exact], rows)
        except ValueError as error:
            if "loss" in (criteria or ()):
                raise
            sifted = trainer.sifted_model_of(
                trainer.model, batch, self._sift(Choice("entropy", last))
            )
            self.passes = Passes(trainer, sifted)
            self.exact = None
            notes["exact losses"] = f"there are none to compare with: {error}"
        found = _exits(trainer.model, last) if exits is None else exits
        layers = list(dict.fromkeys(adapter.resolve(k) for k in found))
        if self._one_prediction(rows) and set(fractions) != {1.0}:
            notes["token fractions"] = "none, as a sample has one labelled prediction"
            fractions = (1.0,)
        self.choices: list[Choice] = []
        for criterion in dict.fromkeys(criteria or DEFAULT_CRITERIA):
            choices = [Choice(criterion, k, share) for k in layers for share in fractions]
            if CRITERIA[criterion].values is None:
                choices = [Choice(criterion, None)]
            try:
                self._add(choices, rows)
                self.choices += dict.fromkeys(choices)
            except ValueError as error:
                if criteria is not None:
                    raise
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
        return self.passes.score(self._scorers[choice], rows, generator)

    def has_margins(self, rows: Mapping[str, Any]) -> bool:
        """Whether a sample's loss is that of one class id by a linear head (Theorem 6.2)."""
        task = self.passes.sifted.facts.task
        return (
            self.exact is not None
            and isinstance(task, ClassIds)
            and task.smoothing == 0
            and task.labels(rows).dim() == 1
            and _ends_linearly(self.passes.model)
        )

    def _add(self, choices: Sequence[Choice], rows: Mapping[str, Any]) -> None:
        """Make the scorers and try the last one."""
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


def _exits(model: nn.Module, last: int) -> list[int]:
    """All exits of a model. Some models only have the last one."""
    adapter, _ = exit_at(model, -1)
    found = []
    for k in range(1, last):
        try:
            found.append(adapter.resolve(k))
        except ValueError:
            continue
    return [*found, last]


def _ends_linearly(model: nn.Module) -> bool:
    """Whether the last module that has parameters is a linear layer."""
    owners = [each for each in model.modules() if any(True for _ in each.parameters(recurse=False))]
    return bool(owners) and isinstance(owners[-1], nn.Linear)
