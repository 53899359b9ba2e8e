"""Compares sifted steps with the same steps by hand: scores, kept rows, loss and gradient."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from sift_trainer import SiftTrainer, SiftTrainingArguments
from tests import training
from tests.invariants.by_hand import step_loss
from tests.invariants.scale_runs import rows
from tests.invariants.test_sifted_step import score

KEPT, DRAWN, STEPS, RATE = 4, 8, 3, 0.05

Context = Callable[[], AbstractContextManager[Any]]
Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Step:
    """Scores by row number, numbers of the kept rows, and gradients of one step."""

    scores: dict[int, float]
    kept: list[int]
    gradients: Gradients


def gradients_of(model: torch.nn.Module) -> Gradients:
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


class Gradient(TrainerCallback):
    """Records the gradient before each optimizer step."""

    def __init__(self) -> None:
        self.noted: list[Gradients] = []

    def on_pre_optimizer_step(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
        self.noted.append(gradients_of(model))


class Noting(SiftTrainer):
    """Records each step; its rows come in their order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.noted: list[tuple[Any, list[int]]] = []
        self.gradient = Gradient()
        self.add_callback(self.gradient)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        (selection,) = self.selections
        assert selection.scores is not None
        self.noted.append((selection.scores.tolist(), selection.rows.tolist()))
        return loss

    @property
    def steps(self) -> list[Step]:
        return [
            Step(
                dict(enumerate(scores, DRAWN * step)),
                [DRAWN * step + row for row in kept],
                gradients,
            )
            for step, ((scores, kept), gradients) in enumerate(
                zip(self.noted, self.gradient.noted, strict=True)
            )
        ]


def arguments(folder: Path, **changes: Any) -> SiftTrainingArguments:
    """Plain gradient steps on rows in their order."""
    settings = {
        "max_steps": STEPS,
        "per_device_train_batch_size": KEPT,
        "learning_rate": RATE,
        "optim": "sgd",
        "max_grad_norm": 0,
        "train_sampling_strategy": "sequential",
        "logging_steps": 500,
        "sift_selector": "top_k",
    }
    return training.arguments(folder, **{**settings, **changes})


def trained(
    name: str, model: PreTrainedModel, folder: Path, kind: type[Noting] = Noting, **changes: Any
) -> Noting:
    """A trainer after its `STEPS` steps."""
    trainer = kind(
        model,
        arguments(folder, **changes),
        train_dataset=training.as_drawn(rows(name, "ragged"), KEPT),
    )
    trainer.train()
    assert len(trainer.noted) == STEPS
    return trainer


def assert_chosen(step: Step, scores: dict[int, float], tolerance: float) -> None:
    """The scores are those given, and the kept rows have the largest, up to the tolerance."""
    assert step.scores.keys() == scores.keys()
    assert all(abs(step.scores[row] - scores[row]) <= tolerance for row in scores), (step, scores)
    dropped = scores.keys() - step.kept
    assert len(step.kept) == len(dropped) == KEPT
    assert min(scores[row] for row in step.kept) >= max(scores[row] for row in dropped) - tolerance
    assert max(scores.values()) - min(scores.values()) > 4 * tolerance  # or any choice would do


def difference(found: Gradients, expected: Gradients) -> float:
    """Norm of the difference of two gradients, relative to the second's."""
    assert found.keys() == expected.keys()
    squares = sum(float((found[name] - expected[name]).square().sum()) for name in expected)
    return float((squares / sum(float(g.square().sum()) for g in expected.values())) ** 0.5)


def by_hand(
    name: str,
    model: PreTrainedModel,
    steps: list[Step],
    context: Context = nullcontext,
    tolerance: float = 1e-5,
    rounding: float = 1e-5,
) -> None:
    """Take the same steps in a plain loop, and compare.

    Args:
        model: as it was before the training.
        context: what a forward runs in.
        tolerance: of scores, absolute.
        rounding: of gradients, relative.
    """
    data = rows(name, "ragged")
    model.train()
    for step in steps:
        with context():
            scores = {row: score(model, name, data[row], "loss") for row in step.scores}
        assert_chosen(step, scores, tolerance)
        model.zero_grad()
        with context():
            loss = step_loss(model, name, [data[row] for row in step.kept], KEPT)
        loss.backward()
        if not all(bool(gradient.isfinite().all()) for gradient in step.gradients.values()):
            continue  # a step that the scaler skips
        assert difference(step.gradients, gradients_of(model)) < rounding
        descend(model)


def descend(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= RATE * parameter.grad
