"""A run's lines: appended as they come, read back without what a resume did again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState

from sift_trainer.reproduction.run_log import FILE, RunLog, read_run_log
from tests.training import RecordingTrainer, Rows, arguments, bert


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (folder / FILE).read_text().splitlines()]


def train(folder: Path, steps: int, resume: bool = False) -> RecordingTrainer:
    args = arguments(folder, max_steps=steps, save_strategy="steps", save_steps=2)
    log = RunLog({"run": "mine"})
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(76), callbacks=[log])
    trainer.train(resume_from_checkpoint=resume or None)
    return trainer


def test_every_log_line_of_the_trainer_is_there_and_the_run_is_described(tmp_path: Path) -> None:
    trainer = train(tmp_path, 3)
    start, *logged = lines(tmp_path)
    assert (start["event"], start["step"], start["run"]) == ("start", 0, "mine")
    assert torch.__version__.startswith(start["machine"]["versions"]["torch"])  # without "+cu130"
    assert read_run_log(tmp_path) == logged
    assert len(logged) == len(trainer.state.log_history)
    for line, expected in zip(logged, trainer.state.log_history, strict=True):
        assert {name: line[name] for name in expected} == expected
    assert "sift/sampling_seconds" in logged[0]


def test_a_resumed_run_goes_on_and_what_it_does_again_counts_once(tmp_path: Path) -> None:
    train(tmp_path, 3)
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes() + b'{"event": "log", "st')  # killed while writing
    train(tmp_path, 5, resume=True)
    losses = [(line["step"], line["loss"]) for line in read_run_log(tmp_path) if "loss" in line]
    train(tmp_path / "whole", 5)
    assert losses == [
        (line["step"], line["loss"]) for line in read_run_log(tmp_path / "whole") if "loss" in line
    ]
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5]
    assert file.read_text().count('"event": "start"') == 2


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    state = TrainerState(is_world_process_zero=False)
    RunLog({}).on_log(arguments(tmp_path), state, TrainerControl(), logs={"loss": 1.0})
    assert not (tmp_path / FILE).exists()


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"log\.jsonl is not there"):
        read_run_log(tmp_path)
