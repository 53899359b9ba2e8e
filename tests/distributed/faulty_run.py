"""Runs of two processes with a fault: ``faulty_run.py STAGE FOLDER`` under a launcher.

Each stage resumes what the stage before it left, then has the next fault.
"""

import json
import os
import sys
import time
from pathlib import Path

from transformers import TrainerCallback

from tests.distributed.launch import leave
from tests.faulty_runs import faulty, stopped

STEPS = 6
SAVING = {"max_steps": STEPS, "save_steps": 2, "save_total_limit": 1}
SIGNALLED = {"max_steps": STEPS, "save_steps": 1000, "dataloader_num_workers": 1}


class Linger(TrainerCallback):
    """Writes a file in a step, which takes the second process longer."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 3:
            self.file.with_suffix(f".{args.process_index}").touch()
            time.sleep(1 + args.process_index)


def train(folder: Path, name: str, arguments: dict, resume=False, fault="", callback=None) -> None:
    """Writes a report of each process that is not killed. The fault is the second process's."""
    rank = int(os.environ["RANK"])
    run = {"folder": str(folder), "arguments": arguments, "resume": resume}
    trainer = faulty({**run, "fault": fault if rank == 1 else ""})
    if callback is not None:
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=resume or None)
    report = {
        "losses": trainer.losses,
        "step": trainer.state.global_step,
        "stopped": stopped(trainer),
    }
    (folder / f"{name}.{rank}.json").write_text(json.dumps(report))


def main(stage: str, folder: Path) -> None:
    if stage == "killed":
        train(folder / "whole", "run", {**SAVING, "save_steps": 1000})
        train(folder / "killed", "run", SAVING, fault="before the random state")
    if stage == "signalled":
        train(folder / "killed", "resumed", SAVING, resume=True)
        train(folder / "signalled", "run", SIGNALLED, callback=Linger(folder / "announced"))
    if stage == "resumed":
        train(folder / "signalled", "resumed", SIGNALLED, resume=True)
    leave()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
