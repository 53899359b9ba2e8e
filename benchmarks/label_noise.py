"""What wrong labels do to sifting and its relatives, and what leaving out the top does about it.

    python benchmarks/label_noise.py                # the table of docs/method_card.md, 3 minutes
    python benchmarks/label_noise.py --rows 8192    # more data, so a quarter of the passes

Every method trains the same small residual network, with as many updates on as many rows, on points
around random centres, four for each class. A share of the training labels is replaced by another
class. Printed are the accuracy on clean test points and the share of kept rows whose label was
wrong: mean over the seeds, lowest and highest. A seed sets data, weights and order.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import PrinterCallback

from sift_trainer import SiftCallback, SiftTrainer, SiftTrainingArguments, register_exit
from sift_trainer.measuring.machine import machine

CLASSES, CENTRES, DIMENSIONS, SPREAD = 8, 4, 16, 0.7
WIDTH, BLOCKS = 64, 4
TEST_ROWS = 4096

METHODS: dict[str, dict[str, Any]] = {
    "no selection": {"sift_keep_ratio": 1.0},
    "random": {"sift_criterion": "random"},
    "Ordered SGD": {"sift_exit_layer": -1},
    "Selective-Backprop": {"sift_exit_layer": -1, "sift_selector": "percentile"},
    "SIFT, loss": {},
    "SIFT, entropy": {"sift_criterion": "entropy"},
    "Ordered SGD, skip 0.2": {"sift_exit_layer": -1, "sift_skip_top": 0.2},
    "Ordered SGD, skip 0.3": {"sift_exit_layer": -1, "sift_skip_top": 0.3},
    "SIFT, loss, skip 0.2": {"sift_skip_top": 0.2},
    "SIFT, loss, skip 0.3": {"sift_skip_top": 0.3},
}
# Every method keeps all rows by their scores.
METHODS = {
    name: {"sift_criterion": "loss", "sift_selector": "top_k", **settings}
    for name, settings in METHODS.items()
}


class Points(Dataset[dict[str, Tensor]]):
    """Points around the random centres of their class.

    Attributes:
        clean: the right labels.
        flipped: which rows have another class as their label.
    """

    def __init__(self, rows: int, flips: float, seed: int, draw: int = 0) -> None:
        centres = torch.Generator().manual_seed(seed)
        rest = torch.Generator().manual_seed(1000 * (draw + 1) + seed)
        count = CLASSES * CENTRES
        which = torch.randint(count, (rows,), generator=rest)
        self.points = torch.randn(count, DIMENSIONS, generator=centres)[which]
        self.points += SPREAD * torch.randn(rows, DIMENSIONS, generator=rest)
        self.clean = which % CLASSES
        self.flipped = torch.rand(rows, generator=rest) < flips
        others = self.clean + torch.randint(1, CLASSES, (rows,), generator=rest)
        self.labels = torch.where(self.flipped, others % CLASSES, self.clean)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {
            "points": self.points[row],
            "labels": self.labels[row],
            "flipped": self.flipped[row],
        }


class Block(nn.Module):
    """A residual block of a feed-forward layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.down(functional.gelu(self.up(self.norm(hidden))))


class ResidualNet(nn.Module):
    """Linear, blocks, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(DIMENSIONS, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(
        self, points: Tensor, labels: Tensor | None = None, flipped: Tensor | None = None
    ) -> dict[str, Tensor]:
        hidden = self.embedding(points)
        for block in self.blocks:
            hidden = block(hidden)
        logits = self.head(hidden)
        if labels is None:
            return {"logits": logits}
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


register_exit(ResidualNet, "blocks")


class FlipCounter(SiftTrainer):
    """Counts the wrong labels among the rows trained on, in the steps that sift."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.flipped = self.kept = 0
        super().__init__(*args, **kwargs)

    def training_step(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(model, inputs, *args, **kwargs)
        if self.selections[0].sifts or self.sift.sift_keep_ratio == 1:
            self.flipped += int(inputs["flipped"].sum())
            self.kept += len(inputs["flipped"])
        return loss


def train(
    settings: Mapping[str, Any], flips: float, seed: int, rows: int, steps: int
) -> dict[str, float]:
    """One run of ``steps`` updates with 64 of ``rows`` rows each, of which a share ``flips`` has
    wrong labels: share of clean test points predicted, share of wrong labels among the kept."""
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        arguments = SiftTrainingArguments(
            folder,
            use_cpu=True,
            seed=seed,
            max_steps=steps,
            per_device_train_batch_size=64,
            learning_rate=2e-3,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **{"sift_warmup_steps": 0.1, **settings},
        )
        trainer = FlipCounter(ResidualNet(), arguments, train_dataset=Points(rows, flips, seed))
        for printing in (SiftCallback, PrinterCallback):
            trainer.pop_callback(printing)
        trainer.train()
    test = Points(TEST_ROWS, 0.0, seed, draw=1)
    with torch.no_grad():
        predicted = trainer.model.eval()(test.points)["logits"].argmax(dim=1)
    right = (predicted == test.clean).double().mean().item()
    return {"accuracy": right, "flipped_kept": trainer.flipped / trainer.kept}


def cell(values: list[float]) -> str:
    return f"{mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=2048, help="training rows")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--flips", type=float, default=0.2, help="share of wrong labels")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/label_noise.json"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # a second thread would only wait at width 64
    print(f"| method | right labels | {options.flips:.0%} flipped | flipped among the kept |")
    print("|---|---|---|---|")
    results = []
    for name, settings in METHODS.items():
        runs = {
            flips: [
                train(settings, flips, seed, options.rows, options.steps)
                for seed in range(options.seeds)
            ]
            for flips in (0.0, options.flips)
        }
        accuracies = [cell([run["accuracy"] for run in group]) for group in runs.values()]
        share = cell([run["flipped_kept"] for run in runs[options.flips]])
        print(f"| {name} | {' | '.join(accuracies)} | {share} |", flush=True)
        results += [
            {"method": name, "sift": settings, "flips": flips, "runs": group}
            for flips, group in runs.items()
        ]
    shown = {name: value for name, value in vars(options).items() if name != "output"}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    written = {"machine": machine(), "settings": shown, "results": results}
    options.output.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
