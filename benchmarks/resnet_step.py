"""Step time of the two-classifier ResNet: baseline, early exit, last exit, by loss.

All arms train the same model in one process, in turn. Printed are medians over the rounds with
their spread, and ratios to the baseline's step of the same round. The baseline is the stock
Trainer, which draws no more rows than it trains on. The measured overhead, scoring / (forward +
backward), stands beside the one by operation counts. The images are on the device already: neither
decoding nor the loader is measured.

    python benchmarks/resnet_step.py --bf16 --channels_last               # ResNet-50, 224 pixels
    python benchmarks/resnet_step.py --stem cifar --image_size 32 --classes 100 --bf16
    python benchmarks/resnet_step.py --depths 1 1 1 1 --widths 16 32 64 128 --stem cifar \\
        --image_size 32 --batch_size 8 --rounds 3                         # on a CPU, in seconds
"""

import argparse
import sys
from argparse import Namespace
from pathlib import Path

import torch
from measured_steps import (
    Arm,
    Row,
    Stepper,
    describe_machine,
    device_name,
    measure,
    table,
    write_result,
)
from resnet_flops import count
from torch import Tensor

from sift_trainer.reproduction.resnet.model import (
    EarlyExitResNetConfig,
    EarlyExitResNetForImageClassification,
)

COLUMNS = ("step_seconds", "ratio_to_stock", "overhead", "counted_overhead")
EXITS = {"early exit": 1, "last exit": -1}


class OnDevice:
    """A collator whose batches are views of random images on the device."""

    def __init__(self, options: Namespace) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (2 * options.batch_size, 3, options.image_size, options.image_size)
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        images = torch.randn(shape, generator=generator)
        self.images = images.to(options.device, memory_format=layout)
        labels = torch.randint(options.classes, shape[:1], generator=generator)
        self.labels = labels.to(options.device)

    def __call__(self, samples: list[dict[str, int]]) -> dict[str, Tensor]:
        count = len(samples)
        return {"pixel_values": self.images[:count], "labels": self.labels[:count]}


def step_times(options: Namespace) -> list[Row]:
    """One row per arm."""
    torch.manual_seed(0)
    config = EarlyExitResNetConfig(
        stem=options.stem,
        num_labels=options.classes,
        depths=options.depths,
        hidden_sizes=options.widths,
        embedding_size=options.widths[0] // 4,
    )
    model = EarlyExitResNetForImageClassification(config).to(options.device)
    if options.channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=5e-4)
    collator = OnDevice(options)
    numbers = [{"labels": row} for row in range(64 * options.batch_size)]
    sift = {"sift_criterion": "loss", "sift_warmup_steps": 0, "sift_cooldown_steps": 0}
    arms = [
        Arm("baseline", None),
        *(Arm(name, {"sift_exit_layer": k, **sift}) for name, k in EXITS.items()),
    ]

    def start(arm: Arm) -> Stepper:
        more = {"dataloader_pin_memory": False}
        return Stepper(arm, model, optimizer, numbers, collator, options, **more)

    rows = measure(arms, start, lambda arm: {"ratio_to_stock": "baseline"}, options)
    cost = count(config, options.image_size)
    for row in rows[1:]:
        row["counted_overhead"] = cost.scoring_overhead(exit_layer=EXITS[row["name"]])
    return rows


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stem", choices=["imagenet", "cifar"], default="imagenet")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--classes", type=int, default=101)
    parser.add_argument("--depths", type=int, nargs="+", default=[3, 4, 6, 3])
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument(
        "--batch_size", type=int, default=125, help="rows trained on; twice are drawn"
    )
    parser.add_argument("--warmup", type=int, default=3, help="uncounted turns")
    parser.add_argument("--steps", type=int, help="consecutive steps of a turn; 5 on a GPU, else 1")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--bf16", action="store_true", help="autocast, in training and in scoring")
    parser.add_argument("--channels_last", action="store_true", help="weights and images")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/resnet_step.json"))
    options = parser.parse_args(argv)
    options.device = device_name()
    options.steps = options.steps or (5 if options.device == "cuda" else 1)
    print(describe_machine(), flush=True)
    rows = step_times(options)
    print(table(rows, COLUMNS, width=16))
    write_result(options.output, options, ["benchmarks/resnet_step.py", *argv], arms=rows)


if __name__ == "__main__":
    main(sys.argv[1:])
