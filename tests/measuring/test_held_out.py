"""Audits with rows of the evaluation set held out, which change neither training nor evaluation."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sift_trainer import SiftTrainer
from sift_trainer.measuring.held_out import BATCHES, evaluation_batches
from tests.measuring.test_audited_runs import audited
from tests.probe.probed import NO_DROPOUT, batch_of, gradient, rough, same_weights
from tests.training import RecordingTrainer, Rows, Stream, arguments, bert, row_numbers

TOWARDS: dict[str, Any] = {"sift_held_out": "evaluation", "sift_audit_steps": 2}


def made(folder: Path, model: Any = None, evaluated: Any = None, **changes: Any) -> SiftTrainer:
    data = Rows(90) if evaluated is None else evaluated
    settings = {"per_device_eval_batch_size": 5, **TOWARDS, **changes}
    model = bert() if model is None else model
    args = arguments(folder, **settings)
    return RecordingTrainer(model, args, train_dataset=Rows(400), eval_dataset=data)


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


@pytest.mark.parametrize(
    ("told", "evaluated", "expected"),
    [
        (None, None, "candidates"),
        (None, Rows(9), "evaluation"),
        (None, {"one": Rows(9)}, "candidates"),
        (None, Stream(9), "candidates"),
        ("candidates", Rows(9), "candidates"),
        ("evaluation", Stream(9), "which is Stream"),
    ],
)
def test_which_rows_are_held_out(
    tmp_path: Path, told: str | None, evaluated: Any, expected: str
) -> None:
    """By default those of the evaluation set, if rows can be drawn from it."""
    args = arguments(tmp_path, sift_held_out=told)
    if expected.startswith("which"):
        with pytest.raises(ValueError, match=expected):
            SiftTrainer(bert(), args, train_dataset=Rows(40), eval_dataset=evaluated)
        return
    trainer = SiftTrainer(bert(), args, train_dataset=Rows(40), eval_dataset=evaluated)
    assert trainer.held_out == expected


def test_descents_are_those_of_a_loop(tmp_path: Path) -> None:
    """Half of all candidates is kept, and as many random ones are drawn."""
    model = rough(bert(**NO_DROPOUT))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = made(tmp_path, model, max_steps=1, sift_random_share=0)
    held_out = evaluation_batches(trainer, trainer.args.per_device_train_batch_size)[0]
    trainer.train()
    (line,) = audited(trainer)
    model.load_state_dict(before)
    model.train()
    towards = gradient(model, held_out)
    kept = float(gradient(model, batch_of(trainer.kept[0])) @ towards)
    assert line["descent_kept"] == pytest.approx(kept, rel=1e-4)
    trainer.state.global_step = 0
    draw = trainer._generator(-1)
    torch.randperm(8, generator=draw)
    drawn = torch.randperm(8, generator=draw)[:4].tolist()
    at_random = gradient(model, batch_of(trainer.candidates[0][place] for place in drawn))
    assert line["descent_random"] == pytest.approx(float(at_random @ towards), rel=1e-4)


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
