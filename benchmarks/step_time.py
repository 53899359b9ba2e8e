"""Step time of stock Trainer, SiftTrainer without sifting, naive sifting, and this sifting.

All arms train the same BERT in one process, in turn; printed are medians over the rounds, with
their spread, and ratios to the stock step of the same round. Peak memory is that of a process of
its own for each arm. Results with the machine they ran on go to a JSON file.

    python benchmarks/step_time.py                     # BERT-base, length 128, 8 kept of 16
    python benchmarks/step_time.py --layers 2 --hidden 128 --rounds 3 --exits 1
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import BertConfig, BertForPreTraining, Trainer

from sift_trainer import SiftTrainer, SiftTrainingArguments
from sift_trainer.run_log import machine

PHASES = ("sampling", "forward", "backward", "optimizer")


@dataclass(frozen=True)
class Arm:
    """One way to take a step."""

    name: str
    settings: dict | None  # None: stock Trainer


def arms(exits: list[int]) -> list[Arm]:
    off = {"sift_keep_ratio": 1.0}
    chosen = [
        Arm("stock Trainer", None),
        Arm("SiftTrainer, not sifting", off),
        Arm("not sifting, labelled-only head", {**off, "sift_masked_only_head": True}),
    ]
    for k in exits:
        sift = {"sift_exit_layer": k, "sift_warmup_steps": 0}
        chosen += [
            Arm(f"naive sifting, exit {k}", {**sift, "sift_masked_only_head": False}),
            Arm(f"sifting by loss, exit {k}", sift),
            Arm(f"sifting by entropy, exit {k}", {**sift, "sift_criterion": "entropy"}),
        ]
    return chosen


class MaskedText(torch.utils.data.Dataset):
    """Random word pieces, 15% of them masked: the cost of a step does not depend on the text."""

    def __init__(self, rows: int, length: int, vocabulary: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(1000, vocabulary, (rows, length), generator=generator)
        masked = torch.rand(rows, length, generator=generator) < 0.15
        self.labels = self.ids.masked_fill(~masked, -100)
        self.ids = self.ids.masked_fill(masked, 103)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {
            "input_ids": self.ids[index],
            "labels": self.labels[index],
            "attention_mask": torch.ones_like(self.ids[index]),
            "next_sentence_label": torch.tensor(index % 2),
        }


class Stepper:
    """A trainer of one arm that takes single optimisation steps."""

    def __init__(self, arm: Arm, model, optimizer, options: argparse.Namespace) -> None:
        # A run so long that no step of the benchmark falls into a warm-up or cool-down.
        args = SiftTrainingArguments(
            tempfile.mkdtemp(),
            max_steps=10**6,
            per_device_train_batch_size=options.batch_size,
            use_cpu=not torch.cuda.is_available(),
            bf16=options.bf16,
            report_to=[],
            **(arm.settings or {}),
        )
        data = MaskedText(4 * options.batch_size, options.length, model.config.vocab_size)
        trainer_class = Trainer if arm.settings is None else SiftTrainer
        self.trainer = trainer_class(model, args, train_dataset=data, optimizers=(optimizer, None))
        self.trainer.state.max_steps = args.max_steps
        self.trainer.current_gradient_accumulation_steps = 1
        self.loader = self.trainer.get_train_dataloader()
        self.model = self.trainer.accelerator.prepare(model) if options.bf16 else model

    def step(self) -> dict[str, float]:
        """Seconds of one step, whole and by phase."""
        trainer, batches = self.trainer, iter(self.loader)
        synchronize()
        begin = time.perf_counter()
        window, count = trainer.get_batch_samples(batches, 1, trainer.args.device)
        trainer.training_step(self.model, window[0], count)
        synchronize()
        computed = time.perf_counter()
        trainer.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        trainer.optimizer.step()
        self.model.zero_grad()
        synchronize()
        seconds = {"step": time.perf_counter() - begin, "optimizer": time.perf_counter() - computed}
        if isinstance(trainer, SiftTrainer):
            timer = trainer.sift_callback.timer
            timer.device = trainer.args.device
            phases = timer.interval()
            seconds |= {phase: phases[phase] for phase in ("sampling", "forward", "backward")}
        return seconds


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def build(options: argparse.Namespace):
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 64,
        intermediate_size=4 * options.hidden,
    )
    model = BertForPreTraining(config)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-5)


def measure(options: argparse.Namespace) -> list[dict]:
    """One row per arm: medians over the rounds."""
    model, optimizer = build(options)
    chosen = arms(options.exits)
    steppers = {arm.name: Stepper(arm, model, optimizer, options) for arm in chosen}
    for stepper in steppers.values():
        stepper.step()
    rounds = []
    for number in range(options.rounds):
        rounds.append({name: stepper.step() for name, stepper in steppers.items()})
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    return [summary(arm, rounds) for arm in chosen]


def summary(arm: Arm, rounds: list[dict]) -> dict:
    stock = next(iter(rounds[0]))
    steps = [results[arm.name]["step"] for results in rounds]
    ratios = [results[arm.name]["step"] / results[stock]["step"] for results in rounds]
    row = asdict(arm) | {
        "step_seconds": statistics.median(steps),
        "step_seconds_range": [min(steps), max(steps)],
        "ratio_to_stock": statistics.median(ratios),
        "ratio_to_stock_range": [min(ratios), max(ratios)],
    }
    if "sampling" in rounds[0][arm.name]:
        row |= {f"{p}_seconds": statistics.median(r[arm.name][p] for r in rounds) for p in PHASES}
        row["overhead"] = statistics.median(
            r[arm.name]["sampling"] / (r[arm.name]["forward"] + r[arm.name]["backward"])
            for r in rounds
        )
    return row


def peak_memory(options: argparse.Namespace, name: str) -> float:
    """Peak memory of three steps of one arm, in MB, in this process."""
    model, optimizer = build(options)
    arm = next(arm for arm in arms(options.exits) if arm.name == name)
    stepper = Stepper(arm, model, optimizer, options)
    for _ in range(3):
        stepper.step()
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def table(rows: list[dict]) -> str:
    lines = [f"{'arm':<32}{'step s':>9}{'of stock':>10}{'range':>15}{'overhead':>10}{'MB':>8}"]
    for row in rows:
        low, high = row["ratio_to_stock_range"]
        lines.append(
            f"{row['name']:<32}{row['step_seconds']:>9.3f}{row['ratio_to_stock']:>10.3f}"
            f"{f'{low:.3f}-{high:.3f}':>15}{row.get('overhead', 0):>10.3f}"
            f"{row.get('peak_mb', float('nan')):>8.0f}"
        )
    return "\n".join(lines)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument(
        "--batch_size", type=int, default=8, help="rows trained on; twice are drawn"
    )
    parser.add_argument("--exits", type=int, nargs="+", default=[1, 3, 6, 12])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--no_memory", action="store_true", help="leave out the memory runs")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/step_time.json"))
    parser.add_argument("--memory_of", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    options = parse(argv)
    if options.memory_of:
        print(json.dumps(peak_memory(options, options.memory_of)))
        return
    rows = measure(options)
    if not options.no_memory:
        for row in rows[:6]:  # up to the first exit: the deeper ones hold no more
            command = [sys.executable, __file__, *argv, "--memory_of", row["name"]]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            row["peak_mb"] = json.loads(output.splitlines()[-1])
    print(table(rows))
    settings = {k: v for k, v in vars(options).items() if k not in ("output", "memory_of")}
    result = {"machine": machine(), "settings": settings, "arms": rows}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
