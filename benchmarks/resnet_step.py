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
import sys
from pathlib import Path

import torch
from measured_steps import (
    Arm,
    Stepper,
    Turn,
    describe_machine,
    device_name,
    summary,
    table,
    take_turns,
    write_result,
)
from resnet_flops import count
from torch.utils.data import Dataset

from sift_trainer.reproduction.resnet.model import (
    EarlyExitResNetConfig,
    EarlyExitResNetForImageClassification,
)

COLUMNS = ("step_seconds", "ratio_to_stock", "overhead", "counted_overhead")
EXITS = {"early exit": 1, "last exit": -1}
ARMS = [
    Arm("baseline", None),
    *(
        Arm(name, {"sift_exit_layer": k, "sift_warmup_steps": 0, "sift_cooldown_steps": 0})
        for name, k in EXITS.items()
    ),
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
    device = torch.device(options.device)
    model = EarlyExitResNetForImageClassification(configuration(options)).to(device)
    if options.channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=5e-4)
    collator = OnDevice(options, device)
    data = Numbers(64 * options.batch_size)

    def start(arm: Arm) -> Turn:
        more = {"dataloader_pin_memory": False}
        taking = Stepper(arm, model, optimizer, data, collator, options, **more)
        return lambda: taking.turn(options.steps)

    starts = {arm.name: lambda arm=arm: start(arm) for arm in ARMS}
    turns = take_turns(starts, options.rounds, options.warmup)
    rows = [summary(arm, turns, {"ratio_to_stock": ARMS[0].name}) for arm in ARMS]
    cost = count(configuration(options), options.image_size)
    for row in rows:
        if row["name"] in EXITS:
            row["counted_overhead"] = cost.scoring_overhead(exit_layer=EXITS[row["name"]])
    return rows


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
    parser.add_argument("--warmup", type=int, default=3, help="turns that are not counted")
    parser.add_argument("--steps", type=int, help="consecutive steps of a turn; 5 on a GPU, else 1")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--bf16", action="store_true", help="autocast, in training and in scoring")
    parser.add_argument("--channels_last", action="store_true", help="weights and images")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/resnet_step.json"))
    options = parser.parse_args(argv)
    options.device = device_name()
    options.steps = options.steps or (5 if options.device == "cuda" else 1)
    return options


def main(argv: list[str]) -> None:
    options = parse(argv)
    print(describe_machine(), flush=True)
    rows = measure(options)
    print(table(rows, COLUMNS, width=16))
    write_result(options.output, options, ["benchmarks/resnet_step.py", *argv], arms=rows)


if __name__ == "__main__":
    main(sys.argv[1:])
