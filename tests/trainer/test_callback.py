"""What a run reports: log entries, TensorBoard scalars, counts, scores, times and the end table."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from transformers import TrainerCallback

from sift_trainer import SiftCallback, callback
from sift_trainer.measuring.timing import PHASES, StepTimer
from sift_trainer.scoring.criteria import UNLABELLED
from sift_trainer.selection.window import Selection
from tests.training import RecordingTrainer, Rows, arguments, bert

SECONDS = {f"sift/{phase}_seconds" for phase in PHASES}
HOURS = {f"sift/{phase}_hours" for phase in PHASES}
COUNTS = {"sift/candidates", "sift/backprop_samples", "sift/nonfinite_scores"}
SCORES = {"sift/kept_score", "sift/dropped_score"}
EVERY_LINE = SECONDS | HOURS | COUNTS | {"sift/overhead"}


def lines(trainer: RecordingTrainer) -> list[dict[str, float]]:
    """The log entries of training steps, without the one of the end."""
    return [log for log in trainer.state.log_history if "loss" in log]


def measured(log: dict[str, float]) -> set[str]:
    return {name for name in log if name.startswith("sift/")}


def test_every_line_carries_every_entry_and_the_table_is_printed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorBoard gets the same numbers; evaluations carry none. Candidates are twice what is
    trained on, also before sifting begins."""
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    evaluated = {"eval_strategy": "steps", "eval_steps": 2, "report_to": "tensorboard"}
    args = arguments(tmp_path, sift_warmup_steps=1, gradient_accumulation_steps=2, **evaluated)
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(48), eval_dataset=Rows(8))
    trainer.train()
    logs = lines(trainer)
    assert [measured(log) for log in logs] == [EVERY_LINE] + [
        EVERY_LINE | SCORES | {"sift/agreement", "sift/lift"}
    ] * 3
    assert measured(trainer.state.log_history[-1]) == HOURS | COUNTS
    evaluations = [log for log in trainer.state.log_history if "eval_loss" in log]
    assert [measured(log) for log in evaluations] == [set(), set()]
    assert [log["sift/candidates"] for log in logs] == [16, 32, 48, 64]
    assert [log["sift/backprop_samples"] for log in logs] == [8, 16, 24, 32]
    for log in logs:
        computed = log["sift/forward_seconds"] + log["sift/backward_seconds"]
        assert log["sift/overhead"] == pytest.approx(log["sift/sampling_seconds"] / computed)
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    for name in EVERY_LINE | SCORES:
        written = {event.step: event.value for event in events.Scalars(f"train/{name}")}
        found = {log["step"]: log[name] for log in logs if name in log}
        assert written == pytest.approx(found, rel=1e-6)
    printed = capsys.readouterr().out
    assert printed.count(trainer.sift_callback.table()) == 1
    assert printed.count("32 of 64 candidates trained on") == 1
    for phase in PHASES:
        assert len(re.findall(rf"^{phase} +[0-9.]+ +[0-9.]+%$", printed, re.MULTILINE)) == 1


# ---- scores ----


def test_means_are_of_finite_scores_and_the_others_are_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of 2, 8, nothing labelled, NaN and infinity, the first two count."""
    measuring = SiftCallback()
    scores = torch.tensor([2.0, UNLABELLED, torch.nan, 8.0, torch.inf, 1.0])
    rows = torch.tensor([0, 1, 2, 3])
    measuring.record(Selection(rows, 6, scores, chosen=rows), world_size=3)
    metrics = measuring.metrics()
    assert (metrics["sift/kept_score"], metrics["sift/dropped_score"]) == (5.0, 1.0)
    assert metrics["sift/nonfinite_scores"] == 2
    assert metrics["sift/candidates"] == 6 * 3
    assert metrics["sift/backprop_samples"] == 4 * 3
    assert not SCORES & set(measuring.metrics())  # the next interval has none of its own
    measuring.record(Selection(rows[:1], 6, scores), world_size=1)  # scored, but not chosen by it
    measuring.record(Selection(rows, 6, scores, chosen=rows), world_size=1)
    assert measuring.totals()["sift/nonfinite_scores"] == 4
    assert [record.levelname for record in caplog.records] == ["WARNING"]


# ---- times ----


def test_each_phase_holds_its_own_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves only by work of known length, in one place each."""
    now = 0.0

    def work(seconds: float) -> None:
        nonlocal now
        now += seconds

    class Working(RecordingTrainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            work(1)
            loss: Tensor = super().compute_loss(model, inputs, *args, **kwargs)
            loss.register_hook(lambda gradient: work(2))
            return loss

    class Elsewhere(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            work(1000)

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            work(1000)

    def collate(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        work(4)
        return torch.utils.data.default_collate(rows)

    model = bert()
    model.bert.encoder.layer[0].attention.self.key.register_forward_hook(
        lambda *_: None if torch.is_grad_enabled() else work(8)
    )

    def timer() -> Any:
        timer: Any = StepTimer()
        timer.clock = lambda: now
        return timer

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(callback, "StepTimer", timer)
    args = arguments(tmp_path, max_steps=3, sift_warmup_steps=1)
    trainer = Working(
        model, args, train_dataset=Rows(12), data_collator=collate, callbacks=[Elsewhere()]
    )
    trainer.create_optimizer()
    assert trainer.optimizer is not None
    trainer.optimizer.register_step_pre_hook(lambda *_: work(16))
    trainer.train()
    found = [{phase: log[f"sift/{phase}_seconds"] for phase in PHASES} for log in lines(trainer)]
    each = {"forward": 1, "backward": 2, "optimizer": 16}
    assert found == [
        {**each, "data": 8, "sampling": 0},  # the loader fetches one batch ahead
        {**each, "data": 4, "sampling": 8},
        {**each, "data": 0, "sampling": 8},
    ]


def test_table_by_hand() -> None:
    measuring = SiftCallback()
    assert "0 of 0 candidates" in measuring.table()
    measuring.timer.totals.update(data=1, sampling=2, forward=6, backward=10, optimizer=1)
    measuring.candidates, measuring.backprop_samples = 800, 400
    table = measuring.table().splitlines()
    assert table[0].split() == ["phase", "seconds", "share"]
    assert table[2].split() == ["sampling", "2.0", "10.0%"]
    assert table[-1].startswith("sampling / (forward + backward) = 0.125; 400 of 800")
