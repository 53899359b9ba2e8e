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

# 76 rows are 10 batches of 8 candidates an epoch, the last of 4. ``save_steps`` is where the run
# resumes, at the last multiple before ``die_at``.
CASES: dict[str, dict[str, Any]] = {
    "sifting": {"save_steps": 4, "die_at": 6, "max_steps": 13, "sift_warmup_steps": 1},
    "warm-up crossing": {"save_steps": 4, "die_at": 6, "max_steps": 13, "sift_warmup_steps": 6},
    "accumulating": {
        "save_steps": 2,
        "die_at": 3,
        "max_steps": 8,
        "sift_warmup_steps": 1,
        "gradient_accumulation_steps": 2,
    },
    "accumulating, warm-up crossing": {
        "save_steps": 2,
        "die_at": 3,
        "max_steps": 8,
        "sift_warmup_steps": 3,
        "gradient_accumulation_steps": 2,
    },
    "some tokens, second epoch": {
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
    "percentile draw, some tokens, accumulating": {
        "save_steps": 2,
        "die_at": 3,
        "max_steps": 8,
        "gradient_accumulation_steps": 2,
        "sift_selector": "percentile",
        "sift_beta": 2.0,
        "sift_skip_top": 0.25,
        "sift_random_share": 0.5,
        "sift_token_fraction": 0.5,
    },
    "restored callbacks": {
        "save_steps": 3,
        "die_at": 5,
        "max_steps": 8,
        "sift_interval": 2,
        "restore_callback_states_from_checkpoint": True,
    },
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """Case -> what the uninterrupted run did, what the resumed one did."""
    folders = {case: tmp_path_factory.mktemp("case") for case in CASES}
    runs = []
    for case, settings in CASES.items():
        arguments = {name: value for name, value in settings.items() if name != "die_at"}
        whole = {**arguments, "save_steps": 1000}
        for name, die_at, resume, args in (
            ("uninterrupted", None, False, whole),
            ("killed", settings["die_at"], False, arguments),
            ("resumed", None, True, arguments),
        ):
            folder = str(folders[case] if name != "uninterrupted" else folders[case] / "whole")
            runs.append(
                {
                    "name": name,
                    "folder": folder,
                    "die_at": die_at,
                    "resume": resume,
                    "arguments": args,
                }
            )
    status, out, error = Forked("tests/interrupted_runs.py", json.dumps(runs)).ended(timeout=300)
    assert status == 0, out[-2000:] + error[-6000:]
    return {
        case: (
            json.loads((folder / "whole" / "uninterrupted.json").read_text()),
            json.loads((folder / "resumed.json").read_text()),
        )
        for case, folder in folders.items()
    }


def micro_batches(case: str) -> int:
    """How many micro-batches precede the checkpoint (none of the cases ends an odd window)."""
    settings = CASES[case]
    return settings["save_steps"] * settings.get("gradient_accumulation_steps", 1)


@pytest.mark.parametrize("case", CASES)
def test_killed_run_goes_on_bit_for_bit(case: str, reports: dict[str, tuple[Any, Any]]) -> None:
    whole, resumed = reports[case]
    start = micro_batches(case)
    assert resumed["kept"] == whole["kept"][start:]
    assert resumed["scores"] == whole["scores"][start:]
    assert resumed["losses"] == whole["losses"][start:]
    assert resumed["weights"] == whole["weights"]
    logged = [log["loss"] for log in whole["logs"] if "loss" in log]
    assert [log["loss"] for log in resumed["logs"] if "loss" in log] == logged
    assert len(logged) == CASES[case]["max_steps"]


@pytest.mark.parametrize("case", CASES)
def test_the_resumed_part_really_sifts(case: str, reports: dict[str, tuple[Any, Any]]) -> None:
    """Without this the equalities above would hold for a trainer that sifts nothing."""
    _, resumed = reports[case]
    settings = CASES[case]
    first, last = settings["save_steps"], settings["max_steps"]
    steps = [
        step
        for step in range(first, last)
        for _ in range(settings.get("gradient_accumulation_steps", 1))
    ]
    begin = settings.get("sift_warmup_steps", 0)
    end = last - settings.get("sift_cooldown_steps", 0)
    expected = [
        begin <= step < end and (step - begin) % settings.get("sift_interval", 1) == 0
        for step in steps
    ]
    active = [scores is not None for scores in resumed["scores"]]
    assert active == expected
    assert any(active)


def test_random_scores_are_new_in_every_micro_batch(reports: dict[str, tuple[Any, Any]]) -> None:
    """Their generator is seeded from the place in the run, so each place must count."""
    whole, _ = reports["random, accumulating, epoch boundary"]
    first = [scores[0] for scores in whole["scores"]]
    assert len(set(first)) == len(first) == 9 * 2


@pytest.mark.parametrize("case", CASES)
def test_totals_go_on(case: str, reports: dict[str, tuple[Any, Any]]) -> None:
    whole, resumed = ([log for log in report["logs"] if "loss" in log] for report in reports[case])
    for name in ("sift/candidates", "sift/backprop_samples", "sift/nonfinite_scores"):
        assert [log[name] for log in resumed] == [log[name] for log in whole]
    if "accumulating" not in case:  # 10 batches an epoch of 8 candidates, the last of 4
        steps = CASES[case]["max_steps"]
        assert resumed[-1]["sift/candidates"] == 8 * steps - 4 * (steps // 10)
        assert resumed[-1]["sift/backprop_samples"] == 4 * steps - 2 * (steps // 10)
    # The log of the resumed run holds that of the killed one, up to the checkpoint.
    for phase in ("data", "forward", "backward", "optimizer"):
        hours = [log[f"sift/{phase}_hours"] for log in resumed]
        assert hours == sorted(hours)
        assert hours[0] > 0


def saved_run(folder: Path, **changes: Any) -> RecordingTrainer:
    """The first 2 steps of a run, with a checkpoint at the end."""
    args = arguments(folder, save_strategy="steps", save_steps=2, max_steps=2, **changes)
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(48))
    trainer.train()
    return trainer


@pytest.mark.parametrize("changes", [{}, {"gradient_accumulation_steps": 2}, {"max_steps": 6}])
def test_a_run_that_is_resumed_at_its_end_trains_no_further(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """In the midst of an epoch and, with 6 steps, at the end of one."""
    args = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2, **changes}
    whole = RecordingTrainer(bert(), arguments(tmp_path, **args), train_dataset=Rows(48))
    whole.train()
    resumed = RecordingTrainer(bert(seed=1), arguments(tmp_path, **args), train_dataset=Rows(48))
    assert resumed.train(resume_from_checkpoint=True).global_step == args["max_steps"]
    assert not resumed.kept
    for name, weights in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weights)
    totals = resumed.state.log_history[-1]
    assert totals["sift/candidates"] == whole.state.log_history[-1]["sift/candidates"]


def test_other_settings_are_named_with_both_values(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved_run(tmp_path, sift_criterion="loss", sift_exit_layer=1, sift_interval=1)
    args = arguments(tmp_path, sift_criterion="entropy", sift_exit_layer=-1, sift_interval=1)
    SiftTrainer(bert(), args, train_dataset=Rows(48)).train(resume_from_checkpoint=True)
    warnings = [record.message for record in caplog.records if "resuming with" in record.message]
    assert len(warnings) == 2
    criterion, exit_layer = warnings
    assert "sift_criterion='entropy'" in criterion
    assert "'loss'" in criterion
    assert "sift_exit_layer=-1" in exit_layer
    assert "1:" in exit_layer.split("trained with")[1]


@pytest.mark.parametrize(
    ("name", "before", "now"),
    [
        ("sift_selector", "percentile", "top_k"),
        ("sift_beta", 2.0, 1.0),
        ("sift_skip_top", 0.25, 0.0),
    ],
)
def test_another_way_to_select_is_named(
    name: str, before: Any, now: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved_run(tmp_path, **{name: before})
    trainer = SiftTrainer(bert(), arguments(tmp_path), train_dataset=Rows(48))
    trainer.train(resume_from_checkpoint=True)
    (said,) = [record.message for record in caplog.records if "resuming with" in record.message]
    assert f"{name}={now!r}" in said
    assert f"trained with {before!r}" in said


def test_same_settings_do_not_warn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved_run(tmp_path)
    trainer = SiftTrainer(bert(), arguments(tmp_path), train_dataset=Rows(48))
    trainer.train(resume_from_checkpoint=True)
    assert not [record for record in caplog.records if "resuming with" in record.message]
    assert trainer.state.log_history[-1]["sift/candidates"] == 4 * 8


def test_going_on_with_a_last_batch_of_one_row(tmp_path: Path) -> None:
    """41 rows are five batches of 8 and one of 1, which is no packed batch."""
    data, args = Rows(41), arguments(tmp_path, max_steps=8)
    whole = RecordingTrainer(bert(), args, train_dataset=data)
    whole.train()
    cut = replace(args, max_steps=5, save_strategy="steps", save_steps=5)
    SiftTrainer(bert(), cut, train_dataset=data).train()
    resumed = RecordingTrainer(bert(seed=1), args, train_dataset=data)
    resumed.train(resume_from_checkpoint=True)
    assert [len(kept) for kept in resumed.kept] == [1, 4, 4]
    assert resumed.kept == whole.kept[5:]
    expected = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_checkpoint_of_a_plain_trainer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It knows nothing of sifting: the totals begin with the resumed part, and saving works."""
    plain = TrainingArguments(**quick(tmp_path, max_steps=2, save_strategy="steps", save_steps=2))
    first = Trainer(bert(), plain, train_dataset=Rows(48))
    first.train()
    before = {name: value.clone() for name, value in first.model.state_dict().items()}

    args = arguments(tmp_path, save_strategy="steps", save_steps=1)
    second = RecordingTrainer(bert(seed=1), args, train_dataset=Rows(48))
    second.train(resume_from_checkpoint=True)
    assert [len(kept) for kept in second.kept] == [4, 4]
    assert None not in second.scores
    assert second.state.log_history[-1]["sift/candidates"] == 2 * 8
    assert not torch.equal(
        second.model.state_dict()["cls.predictions.bias"], before["cls.predictions.bias"]
    )
    state = json.loads((tmp_path / "checkpoint-4" / "trainer_state.json").read_text())
    assert state["stateful_callbacks"]["SiftCallback"]["attributes"]["saved"]["candidates"] == 16

    third = RecordingTrainer(bert(seed=2), replace(args, max_steps=5), train_dataset=Rows(48))
    third.train(resume_from_checkpoint=True)
    assert third.state.log_history[-1]["sift/candidates"] == 3 * 8


def test_checkpoint_resumed_by_a_plain_trainer(tmp_path: Path) -> None:
    saved_run(tmp_path)
    plain = TrainingArguments(**quick(tmp_path, max_steps=3))
    trainer = Trainer(bert(), plain, train_dataset=Rows(48))
    assert trainer.train(resume_from_checkpoint=True).global_step == 3


def test_restored_callbacks_are_the_ones_that_measure(tmp_path: Path) -> None:
    """Transformers replaces the callback by one that it builds from the checkpoint."""
    saved_run(tmp_path)
    args = arguments(tmp_path, restore_callback_states_from_checkpoint=True)
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(48))
    given = trainer.sift_callback
    trainer.train(resume_from_checkpoint=True)
    callbacks = [c for c in trainer.callback_handler.callbacks if isinstance(c, SiftCallback)]
    assert callbacks == [trainer.sift_callback]
    assert trainer.sift_callback is not given
    assert trainer.sift_callback.candidates == 4 * 8


def test_callback_of_the_users_own_goes_on_too(tmp_path: Path) -> None:
    class Mine(SiftCallback):
        pass

    def trainer(steps: int) -> SiftTrainer:
        args = arguments(tmp_path, max_steps=steps, save_strategy="steps", save_steps=2)
        return SiftTrainer(bert(), args, train_dataset=Rows(48), callbacks=[Mine()])

    trainer(2).train()
    resumed = trainer(4)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.sift_callback.candidates == 4 * 8
