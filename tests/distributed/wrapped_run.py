"""Sifted training in one wrapper, whole and resumed; each process writes what it did.

``wrapped_run.py FOLDER WRAPPER`` under a launcher, WRAPPER being what the model is to be put into:
ddp, zero1, zero2, zero3 or fsdp2.
"""

import json
import os
import sys
from pathlib import Path

import torch
from torch.optim import SGD
from transformers.trainer_utils import set_seed

from sift_trainer import SiftTrainer, SiftTrainingArguments
from tests.distributed import fsdp2_on_cpu
from tests.distributed.launch import leave
from tests.invariants.scale_runs import build, rows

KEPT, STEPS, SAVED, RATE, MOMENTUM, CLIP = 4, 5, 3, 0.05, 0.9, 0.5
# BERT takes means of its own, Llama divides by the count that it is given. With their blocks.
MODELS = {"bert_pretraining": "BertLayer", "llama": "LlamaDecoderLayer"}


class Recording(SiftTrainer):
    """Keeps, for each step, the token ids of the rows that were drawn and of those trained on, and
    this process's loss."""

    record: list[dict]
    step_losses: list[float]
    wrapped_in: list[str]

    def training_step(self, model, inputs, num_items_in_batch=None):
        drawn = inputs["input_ids"].tolist()
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.record.append({"drawn": drawn, "kept": inputs["input_ids"].tolist()})
        self.step_losses.append(loss.item())
        self.wrapped_in = [cls.__name__ for cls in type(model).__mro__]
        return loss


def train(name: str, folder: Path, wrapper: str, resume: bool = False, **changes) -> Recording:
    settings = {
        "max_steps": STEPS,
        "per_device_train_batch_size": KEPT,
        "learning_rate": RATE,
        "lr_scheduler_type": "linear",
        "max_grad_norm": CLIP,
        "use_cpu": wrapper != "fsdp2",
        "report_to": [],
        "save_strategy": "steps",
        "save_steps": SAVED,
        "logging_steps": 1,
        "disable_tqdm": True,
        "sift_warmup_steps": 0,
        "dataloader_pin_memory": False,
    }
    args = SiftTrainingArguments(str(folder), **settings | changes)
    model = build(name, dropout=changes.get("optim") is not None, seed=int(resume))
    sgd = None if "optim" in changes else (SGD, {"lr": RATE, "momentum": MOMENTUM})
    data = rows(name, "ragged")
    trainer = Recording(model, args, train_dataset=data, optimizer_cls_and_kwargs=sgd)
    trainer.record, trainer.step_losses = [], []
    trainer.train(resume_from_checkpoint=str(folder / f"checkpoint-{SAVED}") if resume else None)
    return trainer


def report(trainer: Recording) -> dict:
    sifter, logs = trainer._sifter, [line for line in trainer.state.log_history if "loss" in line]
    return {
        "world_size": trainer.args.world_size,
        "wrapped_in": trainer.wrapped_in,
        "steps": trainer.record,
        "optimizer_steps": trainer.state.global_step,
        "step_losses": trainer.step_losses,
        "losses": [line["loss"] for line in logs],
        "grad_norms": [line["grad_norm"] for line in logs],
        "candidates": logs[-1]["sift/candidates"],
        "backprop_samples": logs[-1]["sift/backprop_samples"],
        "trains_with": type(sifter.gather.__self__).__name__,
        "prunes_exit": sifter.scorer.adapter.gathers_positions,
    }


def main(folder: Path, wrapper: str) -> None:
    if wrapper == "fsdp2":
        fsdp2_on_cpu.allow()
    reports = {}
    for name, block in MODELS.items():
        os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = block
        trainer = train(name, folder / name, wrapper)
        reports[name] = report(trainer)
        rank = trainer.args.process_index
        full = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if rank == 0:
            torch.save({k: v.cpu() for k, v in full.items()}, folder / f"{name}.pt")
        reports[f"{name} resumed"] = report(train(name, folder / name, wrapper, resume=True))
    os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = MODELS["bert_pretraining"]
    for resume in (False, True):
        set_seed(resume)
        dropout = {"optim": "adamw_torch", "learning_rate": 1e-3}
        trainer = train("bert_pretraining", folder / "dropout", wrapper, resume, **dropout)
        reports["dropout resumed" if resume else "dropout"] = report(trainer)
    (folder / f"report-{rank}.json").write_text(json.dumps(reports))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
