"""Launch lines that silently lose processes or the wrapper, as they really are; and good ones."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments

from sift_trainer import SiftTrainer
from sift_trainer.processes.launch import LaunchArguments, check_launch
from tests.distributed.launch import accelerate
from tests.training import Rows, arguments, bert, quick, trained

SCRIPT = ("-m", "tests.distributed.launched_run")
TWO = ("--num_processes", 2, "--mixed_precision", "no")
ON_CPU = ("--use_cpu", "True")
GLOO = ("--ddp_backend", "gloo")
ADDRESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def shipped(name: str) -> tuple[str, ...]:
    return ("--config_file", f"configs/accelerate/{name}.yaml")


# Name: what precedes the script, what follows it, the environment, processes in one world, and two
# parts of the error: what was requested, and the line that works.
REFUSED: dict[str, tuple[tuple[Any, ...], tuple[str, ...], dict[str, str], int, str, str]] = {
    "--multi_gpu without --use_cpu": (
        ("--multi_gpu", *TWO),
        (),
        {},
        1,
        "2 processes were started (WORLD_SIZE), but each would train alone",
        "ddp_8gpu.yaml --num_processes 2 --mixed_precision no SCRIPT ... --use_cpu True'",
    ),
    "--ddp_backend gloo": (
        ("--multi_gpu", *TWO),
        GLOO,
        {},
        2,
        "wrapper 'ddp' is requested for 2 processes, but the model will be in 'none'",
        "ddp_8gpu.yaml --num_processes 2 --mixed_precision no SCRIPT ... --use_cpu True'",
    ),
    "DeepSpeed with ACCELERATE_USE_CPU": (
        (*shipped("deepspeed_zero2"), *TWO),
        (),
        {"ACCELERATE_USE_CPU": "true"},
        2,
        "wrapper 'deepspeed' is requested for 2 processes, but the model will be in 'ddp'",
        "SCRIPT ... --use_cpu True', without ACCELERATE_USE_CPU",
    ),
    "DeepSpeed without --use_cpu": (
        (*shipped("deepspeed_zero2"), *TWO),
        (),
        {},
        1,
        "2 processes were started (WORLD_SIZE), but each would train alone",
        "deepspeed_zero2.yaml --num_processes 2 --mixed_precision no SCRIPT ... --use_cpu True'",
    ),
    "FSDP with --use_cpu": (
        (*shipped("fsdp2_8gpu"), *TWO),
        ON_CPU,
        {},
        2,
        "wrapper 'fsdp2' is requested for 2 processes, but the model will be in 'ddp'",
        "fsdp2_8gpu.yaml --num_processes 2 SCRIPT ...' on GPUs",
    ),
    "FSDP with --ddp_backend gloo": (
        (*shipped("fsdp2_8gpu"), *TWO),
        GLOO,
        {},
        2,
        "wrapper 'fsdp2' is requested for 2 processes, but the model will be in 'none'",
        "fsdp2_8gpu.yaml --num_processes 2 SCRIPT ...' on GPUs",
    ),
}


def launched(folder: Path, before: tuple[Any, ...], after: tuple[str, ...], **environment: str):
    """What every process that was started found out."""
    reports = folder / "reports"
    reports.mkdir()
    done = accelerate(*before, *SCRIPT, reports, *after, **environment)
    found = [json.loads(path.read_text()) for path in reports.glob("*.json")]
    assert found, done.stdout[-2000:] + done.stderr[-6000:]
    return found


@pytest.mark.distributed
@pytest.mark.parametrize("name", REFUSED)
def test_a_line_that_drops_what_was_asked_for_is_refused_by_every_process(name, tmp_path):
    before, after, environment, world_size, what, line = REFUSED[name]
    if "DeepSpeed" in name:
        pytest.importorskip("deepspeed")
    found = launched(tmp_path, before, after, **environment)
    assert len(found) == 2
    for process in found:
        assert process["world_size"] == world_size
        assert what in process["trainer"]
        assert line in process["trainer"]
        # Should all this have been passed: the model itself is looked at in the first step.
        assert (process["bare_model"] is not None) == (world_size > 1)


@pytest.mark.distributed
def test_one_process_is_not_suspected_where_an_address_is_exported(tmp_path):
    (found,) = launched(tmp_path, shipped("cpu"), (), **ADDRESS)
    assert found == {"world_size": 1, "trainer": None, "bare_model": None}


@pytest.mark.distributed
def test_two_processes_that_found_each_other_are_passed(tmp_path):
    found = launched(tmp_path, (*shipped("ddp_8gpu"), *TWO), ON_CPU)
    assert [process["world_size"] for process in found] == [2, 2]
    assert [process["trainer"] for process in found] == [None, None]
    for process in found:
        assert "BertForMaskedLM is in no wrapper that averages gradients" in process["bare_model"]


# ---- in this process, which is alone ----


def test_what_a_configuration_asks_for_is_held_against_what_there_is(tmp_path):
    args = TrainingArguments(**quick(tmp_path))
    for fine in (None, "none", "ddp"):
        check_launch(LaunchArguments(wrapper=fine), args)
        check_launch(LaunchArguments(world_size=1, wrapper=fine), args)
    with pytest.raises(
        ValueError, match=r"world_size=8 is requested, but there are 1 .*; start .*ddp_8gpu"
    ):
        check_launch(LaunchArguments(world_size=8), args)
    with pytest.raises(ValueError, match=r"wrapper 'deepspeed' is requested .*, but .* in 'none'"):
        check_launch(LaunchArguments(wrapper="deepspeed"), args)
    with pytest.raises(ValueError, match=r"wrapper 'fsdp2' is requested.*fsdp2_8gpu.yaml"):
        check_launch(LaunchArguments(world_size=1, wrapper="fsdp2"), args)


def test_a_world_size_below_one_is_refused():
    with pytest.raises(ValueError, match="world_size=0 must be 1 or more"):
        LaunchArguments(world_size=0)


def test_fsdp_of_version_1_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "1")
    with pytest.raises(ValueError, match=r"FSDP version 1 is requested.*use fsdp_version: 2"):
        check_launch(LaunchArguments(), TrainingArguments(**quick(tmp_path)))


def test_the_first_step_looks_at_the_model_itself(tmp_path, monkeypatch):
    """Whatever has been passed before: the arguments claim two processes, and nothing wraps."""
    trainer = SiftTrainer(bert(), arguments(tmp_path), train_dataset=Rows(48))
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    with pytest.raises(ValueError, match="2 processes train, but BertForMaskedLM is in no wrapper"):
        trainer.train()
    assert not trained(trainer)


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "WORLD_SIZE", "MASTER_ADDR"])
def test_what_a_shell_exports_by_itself_raises_no_alarm(name, tmp_path, monkeypatch):
    args = arguments(tmp_path)
    monkeypatch.setenv(name, "2")
    SiftTrainer(bert(), args, train_dataset=Rows(48))
