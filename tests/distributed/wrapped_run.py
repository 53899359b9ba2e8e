"""Sifted training in one wrapper, whole and resumed, in some also under a time budget; each process
writes what it did.

``wrapped_run.py FOLDER WRAPPER`` under a launcher, WRAPPER is one of
ddp, zero1, zero2, zero3 and fsdp2.
"""

import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch.optim import SGD

from sift_trainer import SiftTrainer
from sift_trainer.processes.launch import LaunchArguments, check_launch
from tests.distributed import budgeted_run, deepspeed_as_it_trains, fsdp2_on_cpu
from tests.distributed.launch import leave
from tests.invariants.scale_runs import build, rows
from tests.training import arguments, as_drawn

KEPT, STEPS, SAVED, RATE, MOMENTUM, CLIP = 4, 5, 3, 0.05, 0.9, 0.5
BUDGETED = ("ddp",)  # wrappers with a run that the clock ends
RESUMED = ("llama", "dropout")  # the first one with audits
BLOCKS = {"bert_pretraining": "BertLayer", "llama": "LlamaDecoderLayer"}


class Run(NamedTuple):
    """Of `KEPT` rows a step and process; by momentum without dropout, or by AdamW with it."""

    model: str
    accumulation: int = 1
    adamw: bool = False
    unlabelled: tuple[int, ...] = ()  # numbers of rows; then rows come in their order
    audit_steps: int = 0

    def rows(self):
        data = rows(self.model, "ragged")
        for number in self.unlabelled:
            data[number]["labels"] = torch.full_like(data[number]["labels"], -100)
        return data


RUNS = {
    "bert": Run("bert_pretraining"),  # takes a mean of its own over the labels of a batch
    # Divides by the count that it is given.
    "llama": Run("llama", accumulation=2, audit_steps=2),
    "dropout": Run("bert_pretraining", adamw=True),
    "audited": Run("bert_pretraining", audit_steps=2),
    "gaps": Run("llama", unlabelled=tuple(range(8, 16))),  # all that one process draws at first
}


def runs_in(wrapper: str) -> dict[str, Run]:
    """ZeRO-1 and 2 do less than ZeRO-3, so they get fewer runs."""
    names = ("llama", "dropout") if wrapper in ("zero1", "zero2") else RUNS
    return {name: RUNS[name] for name in names}


class Recording(SiftTrainer):
    """Keeps, for each micro-batch, the token ids of the rows that were drawn and of those trained
    on, and this process's loss; and how many positions the head has computed in training."""

    drawn: list[list]
    kept: list[list]
    micro_losses: list[float]
    wrapped_in: list[str]
    head_positions: int

    def get_batch_samples(self, *args, **kwargs):
        batches, count = super().get_batch_samples(*args, **kwargs)
        self.drawn += [batch["input_ids"].tolist() for batch in batches]
        return batches, count

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.kept.append(inputs["input_ids"].tolist())
        self.micro_losses.append(loss.item())
        self.wrapped_in = [cls.__name__ for cls in type(model).__mro__]
        return loss


def train(run: Run, folder: Path, wrapper: str, resume: bool = False) -> Recording:
    os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = BLOCKS[run.model]
    args = arguments(
        folder,
        max_steps=STEPS,
        per_device_train_batch_size=KEPT // run.accumulation,
        gradient_accumulation_steps=run.accumulation,
        optim="adamw_torch",
        learning_rate=1e-3 if run.adamw else RATE,
        lr_scheduler_type="linear",
        max_grad_norm=CLIP,
        train_sampling_strategy="sequential" if run.unlabelled else "random",
        use_cpu=wrapper != "fsdp2",
        save_strategy="steps",
        save_steps=SAVED,
        sift_selector="top_k",
        sift_audit_steps=run.audit_steps,
        dataloader_pin_memory=False,
    )
    check_launch(LaunchArguments(2, "deepspeed" if "zero" in wrapper else wrapper), args)
    if wrapper == "zero3":  # parameters this small would never be sharded again after a use
        zero = args.deepspeed_plugin.deepspeed_config["zero_optimization"]
        zero["stage3_param_persistence_threshold"] = 0
        zero["stage3_max_live_parameters"] = zero["stage3_max_reuse_distance"] = 0
    model = build(run.model, dropout=run.adamw, seed=int(resume))
    sgd = None if run.adamw else (SGD, {"lr": RATE, "momentum": MOMENTUM})
    data = run.rows()
    if run.unlabelled:
        data = as_drawn(data, KEPT // run.accumulation)
    trainer = Recording(model, args, train_dataset=data, optimizer_cls_and_kwargs=sgd)
    trainer.drawn, trainer.kept, trainer.micro_losses = [], [], []
    trainer.head_positions = 0

    def count(module, inputs):
        if module.training and torch.is_grad_enabled():
            positions = inputs[0].shape[:-1].numel()
            trainer.head_positions = max(trainer.head_positions, positions)

    model.get_output_embeddings().register_forward_pre_hook(count)
    trainer.train(resume_from_checkpoint=str(folder / f"checkpoint-{SAVED}") if resume else None)
    return trainer


def report(trainer: Recording) -> dict:
    logs = [line for line in trainer.state.log_history if "loss" in line]
    return {
        "world_size": trainer.args.world_size,
        "wrapped_in": trainer.wrapped_in,
        "drawn": trainer.drawn,
        "kept": trainer.kept,
        "micro_losses": trainer.micro_losses,
        "steps": trainer.state.global_step,
        "losses": [line["loss"] for line in logs],
        "grad_norms": [line["grad_norm"] for line in logs],
        "audits": [
            {name: line[name] for name in line if name.startswith("sift_audit/")} for line in logs
        ],
        "candidates": logs[-1]["sift/candidates"],
        "backprop_samples": logs[-1]["sift/backprop_samples"],
        "head_positions": trainer.head_positions,
    }


def main(folder: Path, wrapper: str) -> None:
    if wrapper == "fsdp2":
        fsdp2_on_cpu.allow()
    if "zero" in wrapper:
        deepspeed_as_it_trains.settle()
    reports = {}
    for name, run in runs_in(wrapper).items():
        trainer = train(run, folder / name, wrapper)
        reports[name], rank = report(trainer), trainer.args.process_index
        whole = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if rank == 0:
            torch.save({key: value.cpu() for key, value in whole.items()}, folder / f"{name}.pt")
        if name in RESUMED:
            reports[f"{name} resumed"] = report(train(run, folder / name, wrapper, resume=True))
    if wrapper in BUDGETED:
        reports["budgeted"] = budgeted_run.train(folder / "budgeted")
    (folder / f"report-{rank}.json").write_text(json.dumps(reports))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
