"""Training runs with faults, each in its own process: ``python -m`` with a JSON list of runs.

The processes are forked, so the libraries are imported once.
"""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

import sift_trainer.checkpoints.saving
from sift_trainer import StopOnSignal, WholeCheckpoints
from tests.forked import import_all
from tests.training import RecordingTrainer, Rows, arguments, bert

AT = 4  # the step whose checkpoint has a fault


class Faulty(WholeCheckpoints, RecordingTrainer):
    """Kills its process at the point of saving that `fault` names; the rest is real."""

    fault = ""

    def reach(self, point: str) -> None:
        if point == self.fault and self.state.global_step == AT:
            os.kill(os.getpid(), signal.SIGKILL)

    def _save_rng_state(self, folder: str) -> None:
        self.reach("before the random state")
        super()._save_rng_state(folder)

    def intercept(self, point: str, name: str) -> None:
        """Reach ``point`` before each call of the function ``name`` of `saving.py`."""
        real = getattr(sift_trainer.checkpoints.saving, name)

        def reaching(*args: Any) -> None:
            self.reach(point)
            real(*args)

        setattr(sift_trainer.checkpoints.saving, name, reaching)


class Limit(TrainerCallback):
    """No file may exceed a size after a step: the disk is full in the middle of a write.

    ``deadly``: the kernel kills the process (SIGXFSZ) instead of failing the write.
    """

    def __init__(self, size: int, deadly: bool) -> None:
        self.size, self.deadly = size, deadly

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == AT:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL if self.deadly else signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, hard))


class Announce(TrainerCallback):
    """Writes a file in a step or evaluation, which then takes half a second."""

    def __init__(self, file: Path, event: str, step: int) -> None:
        self.file, self.event, self.step = file, event, step

    def on_event(self, event: str, state: Any) -> None:
        if event == self.event and state.global_step == self.step and not self.file.exists():
            self.file.write_text(str(os.getpid()))
            time.sleep(0.5)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.on_event("step", state)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.on_event("evaluation", state)


def faulty(run: dict[str, Any]) -> Faulty:
    """The trainer of a run with the keys folder and arguments; optional keys: resume, fault, limit,
    deadly, announce (event and step)."""
    folder = Path(run["folder"])
    # A resumed model starts from other weights: only the checkpoint can make two runs equal.
    model = bert(seed=1 if run.get("resume") else 0)
    callbacks: list[Any] = [StopOnSignal()]
    if "limit" in run:
        callbacks.append(Limit(run["limit"], run.get("deadly", False)))
    if "announce" in run:
        callbacks.append(Announce(folder / "announced", *run["announce"]))
    args = arguments(folder, **{"save_strategy": "steps", **run["arguments"]})
    data = {"train_dataset": Rows(76), "eval_dataset": Rows(8)}
    trainer = Faulty(model, args, callbacks=callbacks, **data)
    trainer.fault = run.get("fault", "")
    trainer.intercept("before the manifest", "write_manifest")
    trainer.intercept("rotating", "rotate")
    return trainer


def train(run: dict[str, Any]) -> None:
    """One run; writes a report into its folder unless it is killed."""
    folder = Path(run["folder"])
    before = signal.getsignal(signal.SIGTERM)
    trainer = faulty(run)
    report: dict[str, Any] = {}
    try:
        trainer.train(resume_from_checkpoint=run.get("resume"))
    except Exception as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        report["error"] = str(error)
    report["handler restored"] = signal.getsignal(signal.SIGTERM) == before
    report["stopped"] = stopped(trainer)
    report["step"] = trainer.state.global_step
    report["losses"] = trainer.losses
    report["evaluated"] = [e["step"] for e in trainer.state.log_history if "eval_loss" in e]
    report["logged"] = [e["step"] for e in trainer.state.log_history if "loss" in e]
    report["limit"] = trainer.args.save_total_limit
    report["checkpoints"] = sorted(path.name for path in folder.glob("checkpoint-*"))
    (folder / f"{run['name']}.json").write_text(json.dumps(report))


def stopped(trainer: Faulty) -> bool:
    found = [c for c in trainer.callback_handler.callbacks if isinstance(c, StopOnSignal)]
    return found[0].stopped


def main() -> None:
    import_all()
    for run in json.loads(sys.argv[1]):
        child = os.fork()
        if child == 0:
            os.setsid()
            train(run)
            os._exit(0)
        if "announce" in run:
            announced = Path(run["folder"]) / "announced"
            while not announced.exists() or not announced.read_text():
                time.sleep(0.01)
            os.killpg(child, signal.SIGTERM)  # and the loader's workers, as schedulers do
        status = os.waitpid(child, 0)[1]
        if os.waitstatus_to_exitcode(status) != -run.get("died", 0):
            sys.exit(f"{run['name']} in {run['folder']} ended with status {status}")


if __name__ == "__main__":
    main()
