"""Step time of the two-classifier ResNet: baseline, early exit, last exit, by loss.

All arms train the same model in one process, in turn; printed are medians over the rounds with
their spread, and ratios to the baseline's step of the same round. The baseline is the stock
Trainer, which draws no more rows than it trains on. Beside the measured overhead, scoring /
(forward + backward), stands the one that counting operations gives. The images lie on the device
already: neither decoding nor the loader is measured.

    python benchmarks/resnet_step.py --bf16 --channels_last               # ResNet-50, 224 pixels
    python benchmarks/resnet_step.py --stem cifar --image_size 32 --classes 100 --bf16
    python benchmarks/resnet_step.py --depths 1 1 1 1 --widths 16 32 64 128 --stem cifar \\
        --image_size 32 --batch_size 8 --rounds 3                         # on a CPU, in seconds
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from step_time import Arm, Stepper, summary
from torch.utils.data import Dataset
from transformers import Trainer

from sift_trainer import SiftTrainer, SiftTrainingArguments
from sift_trainer.models import EarlyExitResNetConfig, EarlyExitResNetForImageClassification
from sift_trainer.models.resnet_flops import count
from sift_trainer.run_log import machine

EXITS = {"early exit": 1, "last exit": -1}
ARMS = [
    Arm("baseline", None),
    *(Arm(name, {"sift_exit_layer": k, "sift_warmup_steps": 0}) for name, k in EXITS.items()),
]


class Numbers(Dataset):
    """As many samples as are needed; `OnDevice` has their images."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, int]:
        return {"labels": index}


class OnDevice:
    """A collator whose batches are views of random images on the device."""

    def __init__(self, options: argparse.Namespace, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        rows = 2 * options.batch_size
        shape = (rows, 3, options.image_size, options.image_size)
        images = torch.randn(shape, generator=generator).to(device)
        if options.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        self.images = images
        self.labels = torch.randint(options.classes, (rows,), generator=generator).to(device)

    def __call__(self, samples: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        count = len(samples)
        return {"pixel_values": self.images[:count], "labels": self.labels[:count]}


class ImageStepper(Stepper):
    """A trainer of one arm that takes single optimisation steps on images."""

    def __init__(self, arm: Arm, model, optimizer, collator, options: argparse.Namespace) -> None:
        args = SiftTrainingArguments(
            tempfile.mkdtemp(),
            max_steps=10**6,  # no step of the benchmark falls into a warm-up or cool-down
            per_device_train_batch_size=options.batch_size,
            use_cpu=not torch.cuda.is_available(),
            bf16=options.bf16,
            dataloader_pin_memory=False,
            report_to=[],
            **(arm.settings or {}),
        )
        trainer_class = Trainer if arm.settings is None else SiftTrainer
        self.trainer = trainer_class(
            model,
            args,
            data_collator=collator,
            train_dataset=Numbers(4 * options.batch_size),
            optimizers=(optimizer, None),
        )
        self.trainer.state.max_steps = args.max_steps
        self.trainer.current_gradient_accumulation_steps = 1
        self.loader = self.trainer.get_train_dataloader()
        self.model = self.trainer.accelerator.prepare(model) if options.bf16 else model


def configuration(options: argparse.Namespace) -> EarlyExitResNetConfig:
    return EarlyExitResNetConfig(
        stem=options.stem,
        num_labels=options.classes,
        depths=options.depths,
        hidden_sizes=options.widths,
        embedding_size=options.widths[0] // 4,
    )


def measure(options: argparse.Namespace) -> list[dict]:
    """One row per arm: medians over the rounds."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = EarlyExitResNetForImageClassification(configuration(options)).to(device)
    if options.channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=5e-4)
    collator = OnDevice(options, device)
    steppers = {arm.name: ImageStepper(arm, model, optimizer, collator, options) for arm in ARMS}
    for _ in range(options.warmup):
        for stepper in steppers.values():
            stepper.step()
    rounds = []
    for number in range(options.rounds):
        rounds.append({name: stepper.step() for name, stepper in steppers.items()})
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    rows = [summary(arm, rounds) for arm in ARMS]
    cost = count(configuration(options), options.image_size)
    for row in rows:
        if row["name"] in EXITS:
            row["counted_overhead"] = cost.scoring_overhead(exit_layer=EXITS[row["name"]])
    return rows


def table(rows: list[dict]) -> str:
    heads = f"{'step s':>9}{'of baseline':>13}{'range':>15}{'overhead':>10}{'counted':>9}"
    lines = [f"{'arm':<12}{heads}"]
    for row in rows:
        low, high = row["ratio_to_stock_range"]
        lines.append(
            f"{row['name']:<12}{row['step_seconds']:>9.4f}{row['ratio_to_stock']:>13.3f}"
            f"{f'{low:.3f}-{high:.3f}':>15}{row.get('overhead', 0):>10.3f}"
            f"{row.get('counted_overhead', 0):>9.3f}"
        )
    return "\n".join(lines)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stem", choices=["imagenet", "cifar"], default="imagenet")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--classes", type=int, default=101)
    parser.add_argument("--depths", type=int, nargs="+", default=[3, 4, 6, 3])
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument(
        "--batch_size", type=int, default=125, help="rows trained on; twice are drawn"
    )
    parser.add_argument("--warmup", type=int, default=3, help="rounds that are not counted")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--bf16", action="store_true", help="autocast, in training and in scoring")
    parser.add_argument("--channels_last", action="store_true", help="weights and images")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/resnet_step.json"))
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    options = parse(argv)
    rows = measure(options)
    print(table(rows))
    settings = {key: value for key, value in vars(options).items() if key != "output"}
    result = {"machine": machine(), "settings": settings, "arms": rows}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
