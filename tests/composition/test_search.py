"""`hyperparameter_search` over sift fields: each trial sifts by its own values."""

from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor
from transformers import TrainerCallback

from sift_trainer import SiftTrainer
from sift_trainer.selection.window import Selection
from tests.composition.replay import KEPT, arguments
from tests.invariants.scale_runs import build, rows
from tests.invariants.test_sifted_step import score

NAME = "bert_masked_lm"
STEPS = 2
GRID = {"sift_criterion": ["loss", "entropy"], "sift_keep_ratio": [0.5, 0.25]}
EXIT_LAYER = {0.5: 1, 0.25: 2}  # not searched over, but set with the ratio


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


class Trials(TrainerCallback):
    """Per trial: its values, what each step selected, and the closing log line."""

    def __init__(self) -> None:
        self.noted: list[tuple[dict[str, Any], list[Selection], dict[str, float]]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.noted.append((state.trial_params, [], {}))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.noted[-1][2].update(logs)


class Searching(SiftTrainer):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trials = Trials()
        self.add_callback(self.trials)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        self.trials.noted[-1][1].extend(self.selections)
        return loss


def searching(folder: Path, **changes: Any) -> Searching:
    return Searching(
        args=arguments(folder, **{"max_steps": STEPS, "logging_steps": 1, **changes}),
        model_init=lambda: build(NAME),
        train_dataset=rows(NAME, "ragged"),
        eval_dataset=rows(NAME, "ragged")[:4],
    )


def chosen(trial: optuna.Trial, grid: dict[str, list[Any]]) -> dict[str, Any]:
    return {name: trial.suggest_categorical(name, values) for name, values in grid.items()}


def space(trial: optuna.Trial) -> dict[str, Any]:
    values = chosen(trial, GRID)
    return {**values, "sift_exit_layer": EXIT_LAYER[values["sift_keep_ratio"]]}


def assert_own_values(values: dict[str, Any], selections: list[Selection], exit_layer: int) -> None:
    """Batch of candidates, adapter and criterion are those of the trial."""
    drawn = round(KEPT / values["sift_keep_ratio"])
    assert [(each.candidates, len(each.rows)) for each in selections] == [(drawn, KEPT)] * STEPS
    model, criterion = build(NAME), values["sift_criterion"]
    data = rows(NAME, "ragged")
    half = len(data) // 2  # where the other candidates begin
    data = data[:KEPT] + data[half : half + drawn - KEPT]
    scores = torch.tensor([score(model, NAME, row, criterion, exit_layer) for row in data])
    assert selections[0].scores is not None
    torch.testing.assert_close(selections[0].scores, scores, rtol=1e-5, atol=1e-6)
    assert torch.equal(selections[0].rows, scores.topk(KEPT).indices.sort().values)


def test_every_trial_sifts_by_its_values(tmp_path: Path) -> None:
    trainer = searching(tmp_path)
    best = trainer.hyperparameter_search(
        space, n_trials=4, direction="minimize", sampler=optuna.samplers.GridSampler(GRID)
    )
    assert best.hyperparameters in [values for values, _, _ in trainer.trials.noted]
    assert len({tuple(values.items()) for values, _, _ in trainer.trials.noted}) == 4
    for values, selections, last in trainer.trials.noted:
        assert_own_values(values, selections, EXIT_LAYER[values["sift_keep_ratio"]])
        assert last["sift/backprop_samples"] == STEPS * KEPT
        assert last["sift/candidates"] == STEPS * round(KEPT / values["sift_keep_ratio"])


def test_a_share_is_not_made_a_whole_number(tmp_path: Path) -> None:
    """A search gives its values the type of what it replaces, here 0."""
    trainer = searching(tmp_path, sift_warmup_steps=0)
    trainer.hyperparameter_search(
        lambda trial: {"sift_warmup_steps": trial.suggest_float("sift_warmup_steps", 0.5, 0.5)},
        n_trials=1,
    )
    ((_, selections, _),) = trainer.trials.noted
    assert [selection.sifts for selection in selections] == [False, True]
