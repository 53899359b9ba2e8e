"""A killed run that is resumed is the run that was not killed, bit for bit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from sift_trainer import SiftCallback, SiftTrainer
from tests.forked import Forked
from tests.training import RecordingTrainer, Rows, arguments, bert, quick

# 38 rows are 10 batches of 8 candidates an epoch, the last of 4. ``save_steps`` is where the run
# resumes, at the last multiple before ``die_at``.
CASES: dict[str, dict[str, Any]] = {
    "warm-up crossing": {"save_steps": 4, "die_at": 6, "max_steps": 9, "sift_warmup_steps": 6},
    "some tokens, second epoch, cool-down": {
        "save_steps": 12,
        "die_at": 14,
        "max_steps": 17,
        "sift_token_fraction": 0.5,
        "sift_cooldown_steps": 2,
    },
    "random, accumulating, epoch boundary": {
        "save_steps": 5,
        "die_at": 7,
        "max_steps": 9,
        "gradient_accumulation_steps": 2,
        "sift_criterion": "random",
    },
    "learned scores, half at random, accumulating": {
        "save_steps": 3,
        "die_at": 5,
        "max_steps": 8,
        "gradient_accumulation_steps": 2,
        "sift_warmup_steps": 2,
        "sift_criterion": "predicted_loss",
        "sift_selector": "mixed",
    },
    "percentile draw, accumulating, interval, restored callbacks": {
        "save_steps": 2,
        "die_at": 3,
        "max_steps": 8,
        "gradient_accumulation_steps": 2,
        "sift_interval": 2,
        "sift_selector": "percentile",
        "sift_beta": 2.0,
        "sift_skip_top": 0.25,
        "restore_callback_states_from_checkpoint": True,
    },
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """Case -> what the uninterrupted run did, what the resumed one did."""
    folders = {case: tmp_path_factory.mktemp("case") for case in CASES}
    runs: list[dict[str, Any]] = []
    for case, settings in CASES.items():
        given = {name: value for name, value in settings.items() if name != "die_at"}
        shared = {"folder": str(folders[case]), "die_at": None, "resume": False, "arguments": given}
        runs += [
            {
                **shared,
                "name": "uninterrupted",
                "folder": str(folders[case] / "whole"),
                "arguments": {**given, "save_steps": 1000},
            },
            {**shared, "name": "killed", "die_at": settings["die_at"]},
            {**shared, "name": "resumed", "resume": True},
        ]
    status, out, error = Forked("tests/interrupted_runs.py", json.dumps(runs)).ended(timeout=300)
    assert status == 0, out[-2000:] + error[-6000:]
    return {
        case: (
            json.loads((folder / "whole" / "uninterrupted.json").read_text()),
            json.loads((folder / "resumed.json").read_text()),
        )
        for case, folder in folders.items()
    }


@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_goes_on_bit_for_bit(case: str, reports: dict[str, tuple[Any, Any]]) -> None:
    """And it sifts: otherwise the equalities would hold for a trainer that sifts nothing."""
    whole, resumed = reports[case]
    settings = CASES[case]
    first, last = settings["save_steps"], settings["max_steps"]
    accumulation = settings.get("gradient_accumulation_steps", 1)
    for what in ("kept", "scores", "losses"):
        assert resumed[what] == whole[what][first * accumulation :]
    assert resumed["weights"] == whole["weights"]
    logs, expected = ([log for log in run["logs"] if "loss" in log] for run in (resumed, whole))
    assert len(logs) == last
    names = ("candidates", "backprop_samples", "nonfinite_scores")
    for name in ("loss", *(f"sift/{name}" for name in names)):
        assert [log[name] for log in logs] == [log[name] for log in expected]
    for phase in ("data", "forward", "backward", "optimizer"):
        hours = [log[f"sift/{phase}_hours"] for log in logs]
        assert hours == sorted(hours)
        assert hours[0] > 0

    begin = settings.get("sift_warmup_steps", 0)
    end = last - settings.get("sift_cooldown_steps", 0)
    interval = settings.get("sift_interval", 1)
    active = [
        begin <= step < end and (step - begin) % interval == 0
        for step in range(first, last)
        for _ in range(accumulation)
    ]
    assert any(active)
    assert [scores is not None for scores in resumed["scores"]] == active


def test_random_scores_are_new_in_every_micro_batch(reports: dict[str, tuple[Any, Any]]) -> None:
    """Their generator is seeded from the place in the run, so each place must count."""
    whole, _ = reports["random, accumulating, epoch boundary"]
    first = [scores[0] for scores in whole["scores"]]
    assert len(set(first)) == len(first) == 9 * 2


def saved_run(folder: Path, kind: Any = RecordingTrainer, **changes: Any) -> Any:
    """The first 2 steps of a run, with a checkpoint at the end."""
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2, **changes}
    trainer = kind(bert(), arguments(folder, **settings), train_dataset=Rows(48))
    trainer.train()
    return trainer


@pytest.mark.parametrize("changes", [{"gradient_accumulation_steps": 2}, {"max_steps": 6}])
def test_a_run_that_is_resumed_at_its_end_trains_no_further(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Within an epoch and, with 6 steps, at the end of one."""
    whole = saved_run(tmp_path, **changes)
    resumed = RecordingTrainer(bert(seed=1), whole.args, train_dataset=Rows(48))
    assert resumed.train(resume_from_checkpoint=True).global_step == whole.args.max_steps
    assert not resumed.kept
    for name, weights in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weights)
    totals = resumed.state.log_history[-1]
    assert totals["sift/candidates"] == whole.state.log_history[-1]["sift/candidates"]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"sift_criterion": ("loss", "entropy"), "sift_exit_layer": (1, -1)},
        {"sift_selector": ("percentile", "top_k"), "sift_skip_top": (0.25, 0.0)},
    ],
)
def test_changed_settings_are_warned_of_with_both_values(
    changed: dict[str, tuple[Any, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved_run(tmp_path, **{name: before for name, (before, _) in changed.items()})
    args = arguments(tmp_path, **{name: now for name, (_, now) in changed.items()})
    trainer = SiftTrainer(bert(), args, train_dataset=Rows(48))
    trainer.train(resume_from_checkpoint=True)
    warnings = [record.message for record in caplog.records if "resuming with" in record.message]
    assert len(warnings) == len(changed)
    for (name, (before, now)), warning in zip(changed.items(), warnings, strict=True):
        assert f"{name}={now!r}" in warning
        assert f"trained with {before!r}" in warning
    assert trainer.state.log_history[-1]["sift/candidates"] == 4 * 8


def test_resuming_at_a_last_batch_of_one_sample(tmp_path: Path) -> None:
    """21 rows are five batches of 6 candidates and one of 1, which is not a packed batch."""
    data, args = Rows(21), arguments(tmp_path, max_steps=8, sift_keep_ratio=0.7)
    whole = RecordingTrainer(bert(), args, train_dataset=data)
    whole.train()
    cut = replace(args, max_steps=5, save_strategy="steps", save_steps=5)
    SiftTrainer(bert(), cut, train_dataset=data).train()
    resumed = RecordingTrainer(bert(seed=1), args, train_dataset=data)
    resumed.train(resume_from_checkpoint=True)
    assert [len(kept) for kept in resumed.kept] == [1, 4, 4]
    assert resumed.kept == whole.kept[5:]
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, whole.model.state_dict()[name]), name


def test_checkpoints_are_exchanged_with_the_stock_trainer(tmp_path: Path) -> None:
    """One of a stock Trainer knows nothing of sifting: the totals begin with the resumed part."""
    plain = TrainingArguments(**quick(tmp_path, max_steps=2, save_strategy="steps", save_steps=2))
    Trainer(bert(), plain, train_dataset=Rows(48)).train()
    args = arguments(tmp_path, save_strategy="steps", save_steps=1)
    second = RecordingTrainer(bert(seed=1), args, train_dataset=Rows(48))
    second.train(resume_from_checkpoint=True)
    assert [len(kept) for kept in second.kept] == [4, 4]
    assert None not in second.scores
    third = RecordingTrainer(bert(seed=2), replace(args, max_steps=5), train_dataset=Rows(48))
    third.train(resume_from_checkpoint=True)
    assert third.state.log_history[-1]["sift/candidates"] == 3 * 8
    trainer = Trainer(bert(), replace(plain, max_steps=6), train_dataset=Rows(48))
    assert trainer.train(resume_from_checkpoint=True).global_step == 6


def test_a_restored_or_an_own_callback_is_the_one_that_measures(tmp_path: Path) -> None:
    """Transformers replaces the callback by one that it builds from the checkpoint."""

    class Mine(SiftCallback):
        pass

    def trainer(folder: str, own: bool, steps: int, **changes: Any) -> Any:
        settings = {"max_steps": steps, "save_strategy": "steps", "save_steps": 2, **changes}
        args = arguments(tmp_path / folder, **settings)
        callbacks = [Mine()] if own else []
        return SiftTrainer(bert(), args, train_dataset=Rows(48), callbacks=callbacks)

    for folder, own in (("restored", False), ("own", True)):
        trainer(folder, own, 2).train()
        resumed = trainer(folder, own, 4, restore_callback_states_from_checkpoint=not own)
        given = resumed.sift_callback
        resumed.train(resume_from_checkpoint=True)
        callbacks = [c for c in resumed.callback_handler.callbacks if isinstance(c, SiftCallback)]
        assert callbacks == [resumed.sift_callback]
        assert (resumed.sift_callback is given) == own
        assert resumed.sift_callback.candidates == 4 * 8
