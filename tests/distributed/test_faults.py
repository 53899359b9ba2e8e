"""Two processes under a launcher: one is killed while a checkpoint is saved, one is signalled, all
are; and their checkpoint in the hands of one process."""

import json
import time
from pathlib import Path

import pytest
import transformers
from packaging.version import Version

from sift_trainer import SiftTrainer
from sift_trainer.checkpoints.manifest import check_whole
from tests.distributed.faulty_run import SAVING, STEPS
from tests.distributed.launch import finish, start, together
from tests.training import RecordingTrainer, Rows, arguments, bert

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.skipif(
        Version(transformers.__version__) < Version("5.23"),
        reason="5.17 itself cannot resume several processes on the CPU: it loads to cpu:0",
    ),
]

SCRIPT = "tests/distributed/faulty_run.py"
PATIENCE = 120  # seconds until a launch has to have ended whose process was killed or signalled


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def killed(folder: Path) -> tuple[int, str]:
    for name in ("whole", "killed", "signalled", "one signalled"):
        (folder / name).mkdir()
    return finish(start(SCRIPT, "killed", folder), PATIENCE)


@pytest.fixture(scope="module")
def left_by_the_killed(folder: Path, killed: tuple[int, str]) -> list[str]:
    return sorted(path.name for path in (folder / "killed").glob("checkpoint-*"))


@pytest.fixture(scope="module")
def signalled(folder: Path, left_by_the_killed: list[str]) -> tuple[int, str]:
    """Resumes the killed one; the launcher is sent SIGTERM in the midst of the next run."""
    launch = start(SCRIPT, "signalled", folder)
    end = time.monotonic() + PATIENCE
    while launch.poll() is None and len(list(folder.glob("announced.*"))) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    launch.terminate()
    return finish(launch, PATIENCE)


@pytest.fixture(scope="module")
def one_signalled(folder: Path, signalled: tuple[int, str]) -> None:
    together(SCRIPT, "one signalled", folder, timeout=PATIENCE)


def reports(folder: Path, case: str, name: str) -> list[dict]:
    return [json.loads((folder / case / f"{name}.{rank}.json").read_text()) for rank in range(2)]


def losses(folder: Path, case: str, name: str) -> list[list[float]]:
    return [report["losses"] for report in reports(folder, case, name)]


def test_a_killed_process_ends_the_launch(
    folder: Path, killed: tuple[int, str], left_by_the_killed: list[str]
) -> None:
    """Its part of checkpoint-4 is missing, all of the other's is there; checkpoint-2 is kept."""
    status, output = killed
    assert status != 0
    assert "Signal 9 (SIGKILL)" in output
    assert not list((folder / "killed").glob("run.*"))
    assert left_by_the_killed == ["checkpoint-2", "checkpoint-4"]


def test_killed_run_goes_on_with_the_same_losses(folder: Path, signalled: tuple[int, str]) -> None:
    whole = losses(folder, "whole", "run")
    assert [len(process) for process in whole] == [STEPS, STEPS]
    assert whole[0] != whole[1]
    assert losses(folder, "killed", "resumed") == [process[2:] for process in whole]
    said = f"{folder / 'killed'}/checkpoint-4 is half-written and not resumed from"
    assert said in signalled[1]
    kept = [path.name for path in (folder / "killed").glob("checkpoint-*")]
    assert kept == [f"checkpoint-{STEPS}"]


def test_signal_to_the_launcher_stops_all_at_one_step(
    folder: Path, one_signalled: None, signalled: tuple[int, str]
) -> None:
    """Each process is in a step of its own when the signal comes, and ends by itself."""
    stopped, resumed = (reports(folder, "signalled", name) for name in ("run", "resumed"))
    assert [report["stopped"] for report in stopped + resumed] == [True] * 2 + [False] * 2
    (step,) = {report["step"] for report in stopped}
    assert 3 < step < STEPS
    check_whole(folder / "signalled" / f"checkpoint-{step}")
    both = zip(stopped, resumed, strict=True)
    found = [first["losses"] + second["losses"] for first, second in both]
    assert found == losses(folder, "whole", "run")


def test_signal_to_one_process_stops_all_after_that_step(folder: Path, one_signalled: None) -> None:
    found = reports(folder, "one signalled", "run")
    assert [(report["stopped"], report["step"]) for report in found] == [(True, 3)] * 2
    check_whole(folder / "one signalled" / "checkpoint-3")


def test_one_process_does_not_go_on_where_two_were(
    folder: Path, one_signalled: None, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = folder / "killed" / f"checkpoint-{STEPS}"
    args = arguments(folder / "one", **{**SAVING, "max_steps": STEPS + 1})
    model = bert(seed=1)
    trainer = RecordingTrainer(model, args, train_dataset=Rows(76))
    with pytest.raises(ValueError, match=r"with world_size=2; this run has world_size=1") as error:
        trainer.train(resume_from_checkpoint=str(checkpoint))
    assert "Resume with world_size=2" in str(error.value)
    assert trainer.losses == []

    args.ignore_data_skip = True
    again = SiftTrainer(model, args, train_dataset=Rows(76))
    assert again.train(resume_from_checkpoint=str(checkpoint)).global_step == STEPS + 1
    assert "with the data in a new order" in caplog.text
