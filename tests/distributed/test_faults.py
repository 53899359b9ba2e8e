"""Two processes: one is killed while a checkpoint is saved; both receive a signal."""

import json
import signal
import time
from pathlib import Path

import pytest
import transformers
from packaging.version import Version

from sift_trainer import SiftTrainer
from sift_trainer.checkpoints.manifest import check_whole
from tests.distributed.faulty_run import SAVING, STEPS
from tests.distributed.launch import begin, finish, together
from tests.training import Rows, arguments, bert

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.skipif(
        Version(transformers.__version__) < Version("5.23"),
        reason="5.17 cannot resume several processes on the CPU: it loads to cpu:0",
    ),
]

SCRIPT = "tests/distributed/faulty_run.py"
PATIENCE = 120  # seconds until a launch must have ended


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    for name in ("whole", "killed", "signalled"):
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def stages(folder: Path) -> str:
    """Does all stages; what the second one printed."""
    statuses, _ = finish(begin(SCRIPT, "killed", folder), PATIENCE)
    assert statuses[1] == -signal.SIGKILL
    assert not list((folder / "killed").glob("run.*"))
    left = sorted(path.name for path in (folder / "killed").glob("checkpoint-*"))
    assert left == ["checkpoint-2", "checkpoint-4"]

    members = begin(SCRIPT, "signalled", folder)
    end = time.monotonic() + PATIENCE
    while len(list(folder.glob("announced.*"))) < 2:
        assert time.monotonic() < end, [member.result() for member in members]
        time.sleep(0.05)
    for member in members:
        member.send_signal(signal.SIGTERM)
    statuses, output = finish(members, PATIENCE)
    assert statuses == [0, 0]

    together(SCRIPT, "resumed", folder, timeout=PATIENCE)
    return output


def reports(folder: Path, case: str, name: str) -> list[dict]:
    return [json.loads((folder / case / f"{name}.{rank}.json").read_text()) for rank in range(2)]


def losses(folder: Path, case: str, name: str) -> list[list[float]]:
    return [report["losses"] for report in reports(folder, case, name)]


def test_run_of_a_killed_process_resumes_with_the_same_losses(folder: Path, stages: str) -> None:
    """Its part of checkpoint-4 is missing, so checkpoint-2 was kept."""
    whole = losses(folder, "whole", "run")
    assert [len(process) for process in whole] == [STEPS, STEPS]
    assert whole[0] != whole[1]
    assert losses(folder, "killed", "resumed") == [process[2:] for process in whole]
    assert f"{folder / 'killed'}/checkpoint-4 is half-written and not resumed from" in stages
    kept = [path.name for path in (folder / "killed").glob("checkpoint-*")]
    assert kept == [f"checkpoint-{STEPS}"]


def test_signal_stops_all_at_one_step(folder: Path, stages: str) -> None:
    """The processes are in different steps when the signal arrives."""
    stopped, resumed = (reports(folder, "signalled", name) for name in ("run", "resumed"))
    assert [report["stopped"] for report in stopped + resumed] == [True] * 2 + [False] * 2
    (step,) = {report["step"] for report in stopped}
    assert 3 < step < STEPS
    check_whole(folder / "signalled" / f"checkpoint-{step}")
    both = zip(stopped, resumed, strict=True)
    found = [first["losses"] + second["losses"] for first, second in both]
    assert found == losses(folder, "whole", "run")


def test_one_process_does_not_resume_the_run_of_two(folder: Path, stages: str) -> None:
    checkpoint = str(folder / "killed" / f"checkpoint-{STEPS}")
    args = arguments(folder / "one", **{**SAVING, "max_steps": STEPS + 1})
    trainer = SiftTrainer(bert(seed=1), args, train_dataset=Rows(76))
    with pytest.raises(ValueError, match=r"with world_size=2; this run has world_size=1") as error:
        trainer.train(resume_from_checkpoint=checkpoint)
    assert "Resume with world_size=2" in str(error.value)
    args.ignore_data_skip = True
    again = SiftTrainer(bert(seed=1), args, train_dataset=Rows(76))
    assert again.train(resume_from_checkpoint=checkpoint).global_step == STEPS + 1
