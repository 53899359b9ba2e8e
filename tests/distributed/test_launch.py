"""Launch lines that silently do not distribute are refused by every process; good ones are not."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments

from sift_trainer import SiftTrainer
from sift_trainer.processes.launch import LaunchArguments, check_launch
from tests.distributed.launch import as_by_accelerate
from tests.training import Rows, arguments, bert, quick, trained

TWO = ("--num_processes", 2, "--mixed_precision", "no")
ON_CPU = ("--use_cpu", "True")
GLOO = ("--ddp_backend", "gloo")
CPU_VARIABLE = {"ACCELERATE_USE_CPU": "true"}


def shipped(name: str) -> tuple[str, ...]:
    return ("--config_file", f"configs/accelerate/{name}.yaml")


def launched(
    folder: Path, before: tuple[Any, ...], after: tuple[str, ...], **environment: str
) -> list[dict[str, Any]]:
    """What each process that this line starts found out."""
    script = ("-m", "tests.distributed.launched_run", folder, *after)
    printed = as_by_accelerate(*before, *TWO, *script, **environment)
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert len(found) == 2, printed
    return found


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("before", "after", "environment", "world_size", "instead"),
    [
        # Two runs that know nothing of each other.
        (("--multi_gpu",), (), {}, 1, "ddp_8gpu.yaml --num_processes 2"),
        # Two processes whose gradients are never averaged.
        (("--multi_gpu",), GLOO, {}, 2, "ddp_8gpu.yaml --num_processes 2"),
        # DDP instead of the wrapper.
        (shipped("deepspeed_zero2"), (), CPU_VARIABLE, 2, "ACCELERATE_USE_CPU unset"),
        (shipped("fsdp2_8gpu"), ON_CPU, {}, 2, "fsdp2_8gpu.yaml --num_processes 2"),
    ],
    ids=["no --use_cpu", "--ddp_backend", "DeepSpeed", "FSDP"],
)
def test_a_line_that_does_not_distribute_is_refused_by_every_process(
    before: tuple[str, ...],
    after: tuple[str, ...],
    environment: dict[str, str],
    world_size: int,
    instead: str,
    tmp_path: Path,
) -> None:
    if "deepspeed" in str(before):
        pytest.importorskip("deepspeed")
    for process in launched(tmp_path, before, after, **environment):
        assert process["world_size"] == world_size
        assert process["refusal"] is not None
        assert instead in process["refusal"]


@pytest.mark.distributed
def test_two_processes_that_train_together_are_accepted(tmp_path: Path) -> None:
    for process in launched(tmp_path, shipped("ddp_8gpu"), ON_CPU):
        assert process == {"world_size": 2, "refusal": None}


# ---- in this process, which is alone ----


def test_what_a_configuration_asks_for_is_compared_with_what_there_is(tmp_path: Path) -> None:
    args = TrainingArguments(**quick(tmp_path))
    for fine in (None, "none", "ddp"):
        check_launch(LaunchArguments(world_size=1, wrapper=fine), args)
    with pytest.raises(ValueError, match=r"world_size=8 .*ddp_8gpu"):
        check_launch(LaunchArguments(world_size=8), args)
    with pytest.raises(ValueError, match=r"wrapper='fsdp2' .*fsdp2_8gpu.yaml"):
        check_launch(LaunchArguments(world_size=1, wrapper="fsdp2"), args)
    with pytest.raises(ValueError, match="world_size=0 must be 1 or more"):
        LaunchArguments(world_size=0)


def test_fsdp_of_version_1_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "1")
    with pytest.raises(ValueError, match="fsdp_version: 2"):
        check_launch(LaunchArguments(), TrainingArguments(**quick(tmp_path)))


def test_the_first_step_looks_at_the_model_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arguments claim two processes, and nothing wraps the model."""
    trainer = SiftTrainer(bert(), arguments(tmp_path), train_dataset=Rows(48))
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    with pytest.raises(ValueError, match="BertForMaskedLM is in no wrapper"):
        trainer.train()
    assert not trained(trainer)
