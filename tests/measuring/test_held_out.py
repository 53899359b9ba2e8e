"""Audits with rows of the evaluation set held out, which change neither training nor evaluation."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sift_trainer import SiftArguments, SiftTrainer
from sift_trainer.measuring.held_out import BATCHES, evaluation_batches, held_out_of
from tests.measuring.test_audited_runs import audited
from tests.probe.probed import same_weights
from tests.training import RecordingTrainer, Rows, Stream, arguments, bert, row_numbers

TOWARDS: dict[str, Any] = {"sift_held_out": "evaluation", "sift_audit_steps": 2}


def made(folder: Path, evaluated: Any = None, **changes: Any) -> SiftTrainer:
    data = Rows(90) if evaluated is None else evaluated
    args = arguments(folder, **{"per_device_eval_batch_size": 5, **TOWARDS, **changes})
    return RecordingTrainer(bert(), args, train_dataset=Rows(400), eval_dataset=data)


def test_batches_are_random_rows_of_the_evaluation_set(tmp_path: Path) -> None:
    trainer = made(tmp_path)
    before = torch.get_rng_state()
    batches = evaluation_batches(trainer, 5)
    assert torch.equal(torch.get_rng_state(), before)
    numbers = [row for batch in batches for row in row_numbers(batch)]
    assert len(numbers) == len(set(numbers)) == 5 * BATCHES
    assert numbers != sorted(numbers)
    again = [row for batch in evaluation_batches(trainer, 5) for row in row_numbers(batch)]
    assert again == numbers
    assert len(evaluation_batches(made(tmp_path, evaluated=Rows(7)), 5)) == 2


def test_which_rows_are_held_out(tmp_path: Path) -> None:
    """By default those of the evaluation set, if rows can be drawn from it."""
    default = SiftArguments()
    assert held_out_of(default, Rows(9)) == "evaluation"
    for evaluated in (None, {"one": Rows(9)}, Stream(9)):
        assert held_out_of(default, evaluated) == "candidates"
    assert held_out_of(SiftArguments(sift_held_out="candidates"), Rows(9)) == "candidates"
    with pytest.raises(ValueError, match="which is Stream"):
        made(tmp_path, evaluated=Stream(9))


def test_training_and_evaluation_are_those_without(tmp_path: Path) -> None:
    """Also with persistent workers, which the Trainer keeps for its own evaluations."""
    workers = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    changes = {**workers, "eval_strategy": "steps", "eval_steps": 2}
    runs, losses = [], []
    for every in (2, 0):
        run = made(tmp_path, **{**changes, "sift_audit_steps": every})
        run.train()
        runs.append(run)
        losses.append([line["eval_loss"] for line in run.state.log_history if "eval_loss" in line])
    assert same_weights(*runs)
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2
    assert "descent_kept" in audited(runs[0])[1]
