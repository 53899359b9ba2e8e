"""Training runs in processes of their own, some of which kill themselves: ``python -m`` it with a
JSON list of runs. The processes are forked, so that the libraries are imported once."""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tests.training import RecordingTrainer, Rows, arguments, bert


class Kill(TrainerCallback):
    """Ends the process without any farewell after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train(run: dict[str, Any]) -> None:
    """One run; writes what it did beside its checkpoints, if it lives to."""
    folder = Path(run["folder"])
    # Every model starts elsewhere: only the checkpoint can make two runs alike.
    model = bert(seed=1 if run["resume"] else 0)
    callbacks = [Kill(run["die_at"])] if run["die_at"] else []
    args = arguments(folder, save_strategy="steps", **run["arguments"])
    trainer = RecordingTrainer(model, args, train_dataset=Rows(38), callbacks=callbacks)
    trainer.train(resume_from_checkpoint=run["resume"] or None)
    digest = hashlib.sha256()
    for value in trainer.model.state_dict().values():
        digest.update(value.numpy().tobytes())
    report = {
        "kept": trainer.kept,
        "scores": trainer.scores,
        "losses": trainer.losses,
        "logs": trainer.state.log_history,
        "weights": digest.hexdigest(),
    }
    (folder / f"{run['name']}.json").write_text(json.dumps(report))


def main() -> None:
    for run in json.loads(sys.argv[1]):
        child = os.fork()
        if child == 0:
            train(run)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if died != bool(run["die_at"]) or (not died and os.waitstatus_to_exitcode(status)):
            sys.exit(f"{run['name']} in {run['folder']} ended with status {status}")


if __name__ == "__main__":
    main()
