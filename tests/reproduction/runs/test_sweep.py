"""A sweep trains every unfinished run once, however many processes start it."""

import json
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from sift_trainer.reproduction.runs.sweep import Planned, held, sweep

FORK = multiprocessing.get_context("fork")

# "Trains" the named run as `behaviour.json` says. Writes a checkpoint on SIGTERM, results at the
# end, and a line in `trained` for each start.
TRAINING = """
import json, os, signal, sys, time
from pathlib import Path
root, name = Path(sys.argv[1]), sys.argv[2]
behaviour = json.loads((root / "behaviour.json").read_text()).get(name, {})
folder = root / name
with (root / "trained").open("a") as file:
    file.write(name + "\\n")
with (folder / "log.jsonl").open("a") as file:
    file.write("{}\\n")
if behaviour.get("fails"):
    sys.exit(4)
def save(*_):
    (folder / "checkpoint").touch()
    sys.exit(0)
if behaviour.get("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, save)
if behaviour.get("forks"):  # the launcher ends first, as it does on a signal
    if os.fork():
        os._exit(0)
time.sleep(behaviour.get("seconds", 0))
(folder / "results.json").write_text(json.dumps({"max_steps": 5}))
"""


class Runs:
    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "training.py").write_text(TRAINING)
        self.behave()

    def behave(self, **behaviour: dict[str, object]) -> None:
        (self.root / "behaviour.json").write_text(json.dumps(behaviour))

    def planned(self, *names: str, max_steps: int = 5, **after: str) -> list[Planned]:
        runs: dict[str, Planned] = {}
        for name in names:
            before = runs[after[name]] if name in after else None
            runs[name] = Planned(name, self.root / name, max_steps, before)
        return list(runs.values())

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(self.root / "training.py"), str(self.root)]

    @property
    def trained(self) -> list[str]:
        file = self.root / "trained"
        return file.read_text().split() if file.is_file() else []

    def start(self, *names: str) -> BaseProcess:
        """The same sweep in a process of its own."""
        process = FORK.Process(target=sweep, args=(self.planned(*names), self.command))
        process.start()
        return process


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)
    raise TimeoutError(path)


def end(caller: BaseProcess) -> None:
    caller.join(60)
    assert caller.exitcode == 0


def test_every_run_is_trained_once_in_order(runs: Runs) -> None:
    planned = runs.planned("a", "b", "c")
    assert sweep(planned, runs.command) == {}
    assert runs.trained == ["a", "b", "c"]
    assert all(run.is_finished() for run in planned)
    assert sweep(planned, runs.command) == {}
    assert runs.trained == ["a", "b", "c"]
    assert sweep(runs.planned("a", max_steps=6), runs.command) == {"a": 0}  # 5 were reached
    assert runs.trained == ["a", "b", "c", "a"]


def test_a_run_waits_for_the_one_whose_time_it_gets(runs: Runs) -> None:
    """Also while another process trains that one."""
    planned = runs.planned("base", "timed", timed="base")
    assert planned[1].waits()
    (runs.root / "base").mkdir()
    with held(runs.root / "base" / ".lock") as lock:
        assert lock is not None
        assert sweep(planned, runs.command) == {}
        assert runs.trained == []
    assert sweep(planned, runs.command) == {}
    assert runs.trained == ["base", "timed"]


def test_a_run_that_fails_is_left_and_the_others_go_on(runs: Runs) -> None:
    runs.behave(b={"fails": True})
    planned = runs.planned("a", "b", "after_b", "c", after_b="b")
    assert sweep(planned, runs.command) == {"b": 4}
    assert runs.trained == ["a", "b", "c"]
    assert [run.is_finished() for run in planned] == [True, False, False, True]
    runs.behave()
    assert sweep(planned, runs.command) == {}
    assert runs.trained == ["a", "b", "c", "b", "after_b"]


def test_two_sweeps_share_the_runs(runs: Runs) -> None:
    names = ("a", "b", "c", "d")
    runs.behave(**{name: {"seconds": 1, "forks": True} for name in names})
    callers = [runs.start(*names), runs.start(*names)]
    for caller in callers:
        end(caller)
    assert sorted(runs.trained) == list(names)
    assert all(run.is_finished() for run in runs.planned(*names))


def test_a_signal_saves_the_current_run_and_ends_the_sweep(runs: Runs) -> None:
    runs.behave(a={"seconds": 100})
    caller = runs.start("a", "b")
    wait_for(runs.root / "a" / "log.jsonl")
    time.sleep(0.3)
    os.kill(caller.pid, signal.SIGINT)
    end(caller)
    assert (runs.root / "a" / "checkpoint").exists()
    assert runs.trained == ["a"]


def test_a_second_signal_kills(runs: Runs) -> None:
    runs.behave(a={"seconds": 100, "stubborn": True})
    caller = runs.start("a", "b")
    wait_for(runs.root / "a" / "log.jsonl")
    time.sleep(0.3)
    caller.terminate()
    time.sleep(1)
    assert caller.is_alive()
    caller.terminate()
    end(caller)
    assert not runs.planned("a")[0].is_finished()


def test_a_killed_sweep_leaves_its_run_locked_until_that_has_ended(runs: Runs) -> None:
    runs.behave(a={"seconds": 3, "forks": True})
    caller = runs.start("a")
    wait_for(runs.root / "a" / "log.jsonl")
    os.kill(caller.pid, signal.SIGKILL)
    caller.join()
    (run,) = runs.planned("a")
    assert not run.is_finished()
    assert sweep([run], runs.command) == {}
    assert runs.trained == ["a"]
    wait_for(runs.root / "a" / "results.json")
    assert run.is_finished()
