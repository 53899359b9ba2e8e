"""Runs with learned scores, whole and resumed, under a launcher: ``FOLDER WRAPPER``."""

import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification

from sift_trainer import SiftTrainer, SiftTrainingArguments
from sift_trainer.processes.launch import LaunchArguments, check_launch
from tests.distributed import deepspeed_as_it_trains, fsdp2_on_cpu
from tests.distributed.launch import leave
from tests.training import Rows, quick

STEPS, SAVED = 8, 4
RULES = {"predicted_loss": "mixed", "last_loss": "infobatch"}


class Classified(Rows):
    """One of four classes per row, which differs between the processes' rows."""

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        fields = super().__getitem__(row)
        return {**fields, "labels": fields["input_ids"][2] % 4}


class Noting(SiftTrainer):
    """Notes the scores of its candidates."""

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(*args, **kwargs)
        for selection in self.selections:
            self.noted.append(selection.scores.tolist() if selection.sifts else None)
        return loss


def trained(folder: Path, wrapper: str, criterion: str, resume: bool) -> Noting:
    torch.manual_seed(int(resume))
    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_labels=4
    )
    config.intermediate_size = 64
    args = SiftTrainingArguments(
        **quick(
            folder / criterion,
            max_steps=STEPS,
            use_cpu=wrapper != "fsdp2",
            save_strategy="steps",
            save_steps=SAVED,
            dataloader_pin_memory=False,
            gradient_accumulation_steps=2,
        ),
        sift_criterion=criterion,
        sift_selector=RULES[criterion],
        sift_warmup_steps=2,
        sift_cooldown_steps=0,
    )
    launcher = "deepspeed" if "zero" in wrapper else wrapper
    check_launch(LaunchArguments(2, launcher), args)
    trainer = Noting(BertForSequenceClassification(config), args, train_dataset=Classified(200))
    trainer.noted = []
    trainer.train(
        resume_from_checkpoint=str(folder / criterion / f"checkpoint-{SAVED}") if resume else None
    )
    return trainer


def main(folder: Path, wrapper: str) -> None:
    if wrapper == "fsdp2":
        fsdp2_on_cpu.allow()
    if "zero" in wrapper:
        deepspeed_as_it_trains.settle()
    found: dict[str, list[Any]] = {criterion: [] for criterion in RULES}
    for criterion, resume in product(RULES, (False, True)):
        trainer = trained(folder, wrapper, criterion, resume)
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        assert trainer._criterion is not None
        found[criterion].append(
            {
                "scores": trainer.noted,
                "parameters": {name: value.cpu() for name, value in (state or {}).items()},
                "criterion": trainer._criterion.state_dict(),
                "agreement": trainer.sift_callback.agreement.state(),
            }
        )
    file = folder / f"found-{trainer.args.process_index}.pt"
    torch.save(found, file.with_suffix(".unfinished"))
    file.with_suffix(".unfinished").rename(file)
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
