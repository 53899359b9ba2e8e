"""Sifted training of a two-classifier ResNet, whole and resumed; each process writes what it did.

``resnet_run.py FOLDER`` under a launcher. Candidates are dealt out in blocks of consecutive rows,
to one process and the other. Those of the second have three times the contrast, so that its
batch-norm statistics differ. In double precision, since normalising two rows enlarges rounding.
"""

import sys
from pathlib import Path

import torch
from torch.optim import SGD

from sift_trainer import SiftTrainer
from tests.distributed.launch import leave
from tests.reproduction.resnet.small_resnet import Images, resnet
from tests.training import arguments, as_drawn

PROCESSES, KEPT, ACCUMULATION, STEPS, SAVED = 2, 4, 2, 6, 3
RATE, MOMENTUM, CLIP = 0.05, 0.9, 4.6
ROWS = 2 * KEPT * PROCESSES * STEPS


# More than half of some micro-batches: rows without a label are kept too.
UNLABELLED = [0, 1, 3, 20, 21, 22, 45, 56, 57, 58, 59, 80, 82, 83]


def rows() -> Images:
    data = Images(ROWS)
    block = torch.arange(ROWS) * ACCUMULATION // (2 * KEPT)
    data.pixel_values = data.pixel_values.double()
    data.pixel_values[block % 2 == 1] *= 3
    data.labels[UNLABELLED] = -100
    return data


def first_pixels(pixel_values: torch.Tensor) -> list[float]:
    """What tells the images of a batch apart."""
    return pixel_values[:, 0, 0, 0].tolist()


class Recording(SiftTrainer):
    """Keeps, for each micro-batch, the rows drawn, their scores, and the rows trained on."""

    notes: dict[str, list]
    scored = False

    def note(self, **values) -> None:
        for name, value in values.items():
            self.notes.setdefault(name, []).append(value)

    def get_batch_samples(self, *args, **kwargs):
        batches, count = super().get_batch_samples(*args, **kwargs)
        for batch in batches:
            self.note(drawn=first_pixels(batch["pixel_values"]))
        self.scored = False
        return batches, count

    def compute_loss(self, model, inputs, *args, **kwargs):
        """The first one of a window comes when all candidates have been scored."""
        if not self.scored:
            self.scored = True
            for selection in self.selections:
                self.note(scores=selection.scores.tolist())
        self.note(kept=first_pixels(inputs["pixel_values"]))
        return super().compute_loss(model, inputs, *args, **kwargs)


def train(folder: Path, resume: bool = False) -> dict:
    args = arguments(
        folder,
        max_steps=STEPS,
        per_device_train_batch_size=KEPT // ACCUMULATION,
        gradient_accumulation_steps=ACCUMULATION,
        learning_rate=RATE,
        max_grad_norm=CLIP,
        train_sampling_strategy="sequential",
        save_strategy="steps",
        save_steps=SAVED,
        sift_selector="top_k",
    )
    sgd = (SGD, {"lr": RATE, "momentum": MOMENTUM})
    # A resumed run starts from other parameters: only the checkpoint can make both equal.
    model = resnet(seed=int(resume)).double()
    trainer = Recording(
        model,
        args,
        train_dataset=as_drawn(rows(), KEPT // ACCUMULATION),
        optimizer_cls_and_kwargs=sgd,
    )
    trainer.notes = {}
    trainer.train(resume_from_checkpoint=str(folder / f"checkpoint-{SAVED}") if resume else None)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        **trainer.notes,
        "world_size": args.world_size,
        "losses": [entry["loss"] for entry in logged],
        "grad_norms": [entry["grad_norm"] for entry in logged],
        "model": trainer.model.state_dict(),
    }


def main(folder: Path) -> None:
    report = {"whole": train(folder), "resumed": train(folder, resume=True)}
    torch.save(report, folder / f"report-{torch.distributed.get_rank()}.pt")
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
