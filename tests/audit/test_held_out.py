"""Audits towards the evaluation set: whose rows, and that evaluation and training know nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sift_trainer import SiftTrainer
from sift_trainer.measuring.held_out import BATCHES, evaluation_batches
from tests.audit.test_audited_runs import NO_DROPOUT, audited, same_weights
from tests.probe.probed import rough
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
    assert [len(row_numbers(batch)) for batch in evaluation_batches(trainer, 3)] == [3] * BATCHES
    assert len(evaluation_batches(made(tmp_path, evaluated=Rows(7)), 5)) == 2


@pytest.mark.parametrize(
    ("told", "evaluated", "expected"),
    [
        (None, None, "candidates"),
        (None, Rows(9), "evaluation"),
        (None, {"one": Rows(9)}, "candidates"),
        (None, Stream(9), "candidates"),
        ("candidates", Rows(9), "candidates"),
        ("evaluation", Rows(9), "evaluation"),
    ],
)
def test_whose_loss_is_looked_towards(
    tmp_path: Path, told: str | None, evaluated: Any, expected: str
) -> None:
    """By default the evaluation set's, where there is one of which rows can be drawn."""
    args = arguments(tmp_path, sift_held_out=told)
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(40), eval_dataset=evaluated)
    assert trainer.held_out == expected


def test_what_rows_bring_is_what_they_bring_the_evaluation_set(tmp_path: Path) -> None:
    """By a loop: of all candidates half is kept, and as many are drawn."""
    model = rough(bert(**NO_DROPOUT))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = made(tmp_path, model, max_steps=1)
    held_out = evaluation_batches(trainer, trainer.args.per_device_train_batch_size)[0]
    trainer.train()
    (line,) = audited(trainer)
    model.load_state_dict(before)
    parameters = list(model.train().parameters())

    def gradient(batch: dict[str, Tensor]) -> Tensor:
        known = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
        found = torch.autograd.grad(model(**known).loss, parameters, allow_unused=True)
        return torch.cat([each.flatten() for each in found if each is not None])

    def of(numbers: list[int]) -> Tensor:
        rows = [Rows(400)[number] for number in numbers]
        return gradient({name: torch.stack([row[name] for row in rows]) for name in rows[0]})

    towards = gradient(held_out)
    assert line["descent_kept"] == pytest.approx(float(of(trainer.kept[0]) @ towards), rel=1e-4)
    trainer.state.global_step = 0
    draw = trainer._generator(-1)
    torch.randperm(8, generator=draw)
    drawn = torch.randperm(8, generator=draw)[:4].tolist()
    at_random = float(of([trainer.candidates[0][place] for place in drawn]) @ towards)
    assert line["descent_random"] == pytest.approx(at_random, rel=1e-4)


def test_training_and_evaluation_are_those_without(tmp_path: Path) -> None:
    """Also with loaders whose workers persist, which the Trainer keeps by name."""
    workers = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    changes = {**workers, "eval_strategy": "steps", "eval_steps": 2}
    runs = []
    for every in (2, 0):
        trainer = made(tmp_path, **{**changes, "sift_audit_steps": every})
        trainer.train()
        runs.append(trainer)
    assert same_weights(*runs)
    losses = [
        [line["eval_loss"] for line in run.state.log_history if "eval_loss" in line] for run in runs
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2
    assert "descent_kept" in audited(runs[0])[1]


@pytest.mark.parametrize(
    ("evaluated", "named"),
    [(None, "which is None"), ({"a": Rows(9)}, "which is dict"), (Stream(9), "which is Stream")],
)
def test_an_evaluation_set_without_rows_to_draw_is_refused(
    tmp_path: Path, evaluated: Any, named: str
) -> None:
    args = arguments(tmp_path, **TOWARDS)
    with pytest.raises(ValueError, match=named):
        SiftTrainer(bert(), args, train_dataset=Rows(40), eval_dataset=evaluated)
