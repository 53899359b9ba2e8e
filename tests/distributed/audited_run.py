"""Runs of two processes whose audits open and shut a gate; each process writes what it did.

``audited_run.py FOLDER`` under a launcher.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from sift_trainer.measuring.auditor import Auditor
from tests.distributed.launch import leave
from tests.training import RecordingTrainer, Rows, arguments, bert

KEPT, STEPS, SAVED, TURN = 4, 10, 6, 7
OTHERS = {"random": 2.0, "dropped": 1.0, "kept_at_equal_length": 9.0, "random_at_equal_length": 1.0}
# What kept rows bring, by process: up to step TURN the second one alone would not sift, and from
# there on the first one alone would not stop.
BEFORE, AFTER = (19.0, 1.0), (19.0, -900.0)

GATED = {"sift_gate": "descent", "sift_audit_steps": 1, "max_steps": STEPS}
SAVING = {"save_strategy": "steps", "save_steps": SAVED}


def train(folder: Path, seed: int = 0, resume: Any = None, **changes: Any) -> dict[str, Any]:
    args = arguments(folder, per_device_train_batch_size=KEPT, **changes)
    trainer = RecordingTrainer(bert(seed), args, train_dataset=Rows(400))
    trainer.train(resume_from_checkpoint=resume and str(resume))
    lines = [line for line in trainer.state.log_history if "loss" in line]
    return {
        "world_size": args.world_size,
        "wrapped_in": type(trainer.model_wrapped).__name__,
        "candidates": trainer.candidates,
        "kept": trainer.kept,
        "losses": trainer.losses,
        "sifted": [scores is not None for scores in trainer.scores],
        "logged": lines,
        "model": trainer.model.state_dict(),
    }


def gated(folder: Path, share: float, **more: Any) -> dict[str, Any]:
    """A run whose audits are made, and whose results are replaced; scoring takes ``share`` of a
    step."""
    measured = Auditor._figures

    def told(auditor: Auditor, *args: Any) -> dict[str, float]:
        measured(auditor, *args)
        state, rank = auditor.trainer.state, auditor.trainer.args.process_index
        found = {**OTHERS, "kept": (BEFORE if state.global_step < TURN else AFTER)[rank]}
        kinds = ("descent", "adam_descent")
        both = {f"{kind}_{name}": value for kind in kinds for name, value in found.items()}
        return {**both, "scoring_share": share}

    Auditor._figures = told
    try:
        return train(folder, **GATED, **SAVING, **more)
    finally:
        Auditor._figures = measured


def main(folder: Path) -> None:
    saved = folder / "gated" / f"checkpoint-{SAVED}"
    reports = {
        "gated": gated(folder / "gated", share=0.25),
        # From other parameters, which are the checkpoint's then; on a day when scoring is slow.
        "gated resumed": gated(folder / "gated", share=9.0, seed=1, resume=saved),
    }
    torch.save(reports, folder / f"report-{torch.distributed.get_rank()}.pt")
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
