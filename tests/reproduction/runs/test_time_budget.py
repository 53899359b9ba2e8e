"""A run ends when its training seconds are spent, and its schedule with it."""

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from sift_trainer.reproduction.resnet.one_cycle import OneCycleMixin
from sift_trainer.reproduction.run_log import RunLog
from sift_trainer.reproduction.runs.time_budget import TimeBudget
from tests.reproduction.resnet.test_one_cycle import Rates, plain_loop
from tests.training import RecordingTrainer, Rows, arguments, bert


class Clock:
    """Stands still but for the work of each step, which takes the seconds in `lengths`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lengths: dict[int, float] = {}

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


class Working(RecordingTrainer):
    """A forward takes as long as the clock is told, of the first step 1 second and so on."""

    clock: Clock

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        self.clock.now += self.clock.lengths.get(self.state.global_step, 1.0)
        return super().compute_loss(*args, **kwargs)


class WorkingOneCycle(OneCycleMixin, Working):
    pass


class Pause(TrainerCallback):
    """Evaluating and saving take long."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self.clock.now += 1000

    def on_save(self, *args: Any, **kwargs: Any) -> None:
        self.clock.now += 1000


def budgeted(
    folder: Path, clock: Clock, seconds: Any, kind: Any = Working, seed: int = 0, **changes: Any
) -> Any:
    settings = {"max_steps": 10, "lr_scheduler_type": "linear", **changes}
    rates = Rates()
    trainer = kind(
        bert(seed=seed),
        arguments(folder, **settings),
        train_dataset=Rows(76),
        eval_dataset=Rows(4),
        callbacks=[rates, Pause(clock), RunLog({})],
    )
    trainer.clock = clock
    trainer.budget = None
    if seconds is not None:
        trainer.budget = TimeBudget(trainer, seconds)
        trainer.add_callback(trainer.budget)
    trainer.rates = rates.found
    return trainer


def first_rates(trainer: Any) -> list[float]:
    return [groups[0][0] for groups in trainer.rates]


def test_run_ends_with_the_step_that_spends_it(tmp_path: Path, clock: Clock) -> None:
    """That step is evaluated, saved and logged, and neither counts as training."""
    steps = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 2}
    trainer = budgeted(tmp_path, clock, 4.5, logging_steps=100, **steps)
    trainer.train()
    assert trainer.state.global_step == 5
    assert trainer.budget.stopped
    assert sum(trainer.sift_callback.timer.totals.values()) == 5.0
    evaluated = [log["step"] for log in trainer.state.log_history if "eval_loss" in log]
    assert evaluated == [3, 5]
    assert [log["step"] for log in trainer.state.log_history if "loss" in log] == [5]
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {
        "checkpoint-2",
        "checkpoint-4",
        "checkpoint-5",
    }


def test_linear_rate_falls_with_the_time(tmp_path: Path, clock: Clock) -> None:
    """8 seconds: 1, 3, 2, 1, 1. Each step's rate is by what was spent before it."""
    clock.lengths = {0: 1, 1: 3, 2: 2}
    trainer = budgeted(tmp_path, clock, 8)
    trainer.train()
    assert trainer.state.global_step == 5
    expected = [1e-2 * (1 - spent / 8) for spent in (0, 1, 4, 6, 7)]
    assert first_rates(trainer) == pytest.approx(expected)


def test_one_cycle_comes_to_its_end_with_the_time(tmp_path: Path, clock: Clock) -> None:
    """Laid out over 100 steps, of which there is time for 20: the peak after 30% of the time,
    beta1 with it, the last rate that of a cycle with a step left of its 20."""
    trainer = budgeted(tmp_path, clock, 20, kind=WorkingOneCycle, max_steps=100)
    trainer.train()
    assert trainer.state.global_step == 20
    found = first_rates(trainer)
    assert max(found) == pytest.approx(1e-2, rel=0.01)
    assert found.index(max(found)) == 6
    assert min(beta1 for ((_, beta1), _) in trainer.rates) == pytest.approx(0.85, rel=0.01)
    # The cosine from place 29 to place 99 of the schedule, at 19/20 of 100.
    share = (95 - 29) / (99 - 29)
    assert found[-1] == pytest.approx(1e-2 * (1 + math.cos(math.pi * share)) / 2, rel=1e-3)
    assert found[-1] < 0.01 * max(found)


def test_budget_for_more_than_all_steps(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The schedule ends by steps, as usual, and a warning is logged."""
    trainer = budgeted(tmp_path, clock, 12, kind=WorkingOneCycle, max_steps=6)
    trainer.train()
    assert not trainer.budget.stopped
    assert first_rates(trainer) == pytest.approx([lr for ((lr, _), _) in plain_loop(1e-2, 6)])
    assert "ends at max_steps=6 after 50.0% of its 12 seconds" in caplog.text


def test_resumed_run_has_the_rest_of_the_budget(tmp_path: Path, clock: Clock) -> None:
    settings = {"kind": WorkingOneCycle, "save_strategy": "steps", "save_steps": 3}
    clock.lengths = {1: 0.5, 4: 1.75}
    whole = budgeted(tmp_path, clock, 7, **settings)
    whole.train()
    assert whole.state.global_step == 7  # 1, 0.5, 1, 1, 1.75, 1, 1
    resumed = budgeted(tmp_path, clock, 7, seed=1, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert resumed.state.global_step == 7
    assert resumed.rates == whole.rates[3:]
    assert resumed.losses == whole.losses[3:]


def test_time_of_a_baseline(tmp_path: Path, clock: Clock) -> None:
    """Its 4 seconds, of which half is before the checkpoint that it was resumed from."""
    baseline = {"max_steps": 4, "sift_keep_ratio": 1.0, "save_strategy": "steps", "save_steps": 2}
    budgeted(tmp_path, clock, None, **baseline).train()
    assert TimeBudget(budgeted(tmp_path, clock, None), tmp_path).seconds == pytest.approx(4)
    again = budgeted(tmp_path, clock, None, **baseline)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    budget = TimeBudget(budgeted(tmp_path, clock, None), str(tmp_path))
    assert budget.seconds == pytest.approx(4)


def test_a_baseline_of_another_machine_is_refused(tmp_path: Path, clock: Clock) -> None:
    budgeted(tmp_path, clock, None, max_steps=2).train()
    log = tmp_path / "log.jsonl"
    start, *lines = log.read_text().splitlines(keepends=True)
    line = json.loads(start)
    line["machine"]["threads"] = 999
    log.write_text(json.dumps(line) + "\n" + "".join(lines))
    trainer = budgeted(tmp_path / "new", clock, None)
    with pytest.raises(ValueError, match="was on a machine with threads=999, and this one"):
        TimeBudget(trainer, tmp_path)


def test_unfinished_baseline_is_refused(tmp_path: Path, clock: Clock) -> None:
    trainer = budgeted(tmp_path / "new", clock, None)
    with pytest.raises(ValueError, match=r"log\.jsonl is not there"):
        TimeBudget(trainer, tmp_path)
    budgeted(tmp_path, clock, 2).train()  # of 10 steps
    with pytest.raises(ValueError, match="is unfinished: its log ends at step 2"):
        TimeBudget(trainer, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sift_cooldown_steps": 2}, "sift_cooldown_steps=2 counts back .* use 0"),
        (
            {"lr_scheduler_type": "greedy", "eval_strategy": "epoch"},
            "schedule is a GreedyLR, .* use OneCycleMixin",
        ),
    ],
)
def test_what_the_time_cannot_move(
    changes: dict[str, Any], message: str, tmp_path: Path, clock: Clock
) -> None:
    trainer = budgeted(tmp_path, clock, 5, **changes)
    with pytest.raises(ValueError, match=message):
        trainer.train()
    assert not trainer.losses
