"""Step time and peak memory: stock Trainer, equally optimised vanilla, naive sifting, this sifting.

All arms train the same BERT in one process, in turn; printed are medians over the rounds, with
their spread, and ratios to the stock step of the same round. *Vanilla* does not sift, but computes
head and last block on labelled positions as sifting does. *Naive* sifting computes its head on all
positions and prunes nothing, in training and in scoring. Peak memory on a GPU is what an arm has
allocated in its turns; on a CPU what a process of its own holds that takes two steps of it.

    python benchmarks/step_time.py       # CPU: length 128, 8 kept of 16; GPU: 512, 32 of 64, bf16
    python benchmarks/step_time.py --compile --exits 1        # also with torch.compile
    python benchmarks/step_time.py --layers 2 --hidden 128 --rounds 3 --exits 1
"""

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from bert_steps import bert_parser, build, counted, deadline, resolve, stepper
from measured_steps import (
    Arm,
    Turn,
    Turns,
    describe_machine,
    peak_of_process,
    summary,
    table,
    take_turns,
    write_result,
)

STOCK, VANILLA = "stock Trainer", "vanilla, labelled-only head"
COMPILED = ", compiled"
COLUMNS = ("ratio_to_stock", "processor_ratio_to_stock", "overhead", "counted_overhead", "peak_mb")
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def arms(exits: list[int], compiled: bool) -> list[Arm]:
    off = {"sift_keep_ratio": 1.0}
    chosen = [
        Arm(STOCK, None),
        Arm("SiftTrainer, not sifting", off),
        Arm(VANILLA, {**off, "sift_masked_only_head": True}),
    ]
    for k in exits:
        sift: dict[str, Any] = {"sift_exit_layer": k, "sift_warmup_steps": 0}
        entropy = {**sift, "sift_criterion": "entropy"}
        chosen += [
            Arm(f"naive sifting by loss, exit {k}", {**sift, "sift_masked_only_head": False}),
            Arm(f"naive sifting by entropy, exit {k}", {**entropy, "sift_masked_only_head": False}),
            Arm(f"sifting by loss, exit {k}", sift),
            Arm(f"sifting by entropy, exit {k}", entropy),
        ]
        if k == 1:
            part = {"sift_token_fraction": 0.25}
            chosen += [
                Arm("sifting by loss, exit 1, a quarter of the labels", {**sift, **part}),
                Arm("sifting by entropy, exit 1, a quarter of the labels", {**entropy, **part}),
            ]
    if compiled:
        first = exits[0]
        names = [
            *(STOCK, VANILLA),
            *(f"{how}, exit {first}" for how in ("sifting by loss", "sifting by entropy")),
            f"naive sifting by loss, exit {first}",  # trains what stock trains: compiled last
        ]
        plain = {arm.name: arm for arm in chosen}
        chosen += [Arm(name + COMPILED, plain[name].settings, compiled=True) for name in names]
    return chosen


def measure(options: argparse.Namespace, report: Any = lambda rows: None) -> list[dict[str, Any]]:
    """One row per arm: medians over the rounds. ``report`` gets the rows after every round."""
    model, optimizer = build(options)
    named = arms(options.exits, options.compile)
    chosen = [arm for arm in named if not any(part in arm.name for part in options.skip)]
    if options.compile:
        # One function, such as a block's forward, is compiled for each arm: the usual limit would
        # leave the last arms uncompiled without a word.
        from torch import _dynamo

        _dynamo.config.recompile_limit = 64

    def start(arm: Arm) -> Turn:
        taking = stepper(arm, model, optimizer, options)
        return lambda: _turn(taking.turn, options.steps, arm)

    def rows(turns: Turns) -> list[dict[str, Any]]:
        return [_row(arm, turns, options) for arm in chosen]

    starts = {arm.name: lambda arm=arm: start(arm) for arm in chosen}
    turns = take_turns(
        starts,
        options.rounds,
        options.warmup,
        deadline(options),
        after_round=lambda turns: report(rows(turns)),
    )
    return rows(turns)


def _turn(turn: Any, steps: int, arm: Arm) -> dict[str, float]:
    """A turn, with the number of graphs that were compiled in it."""
    before = graphs()
    seconds = turn(steps)
    return {**seconds, "graphs": graphs() - before} if arm.compiled else seconds


def graphs() -> int:
    """Graphs that this process has compiled."""
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]


def _row(arm: Arm, turns: Turns, options: argparse.Namespace) -> dict[str, Any]:
    suffix = COMPILED if arm.compiled else ""  # held to the compiled stock step
    references = {"ratio_to_stock": STOCK + suffix, "ratio_to_vanilla": VANILLA + suffix}
    if arm.compiled:
        references["ratio_to_uncompiled_stock"] = STOCK
    row = summary(arm, turns, references) | counted(arm, options)
    if arm.compiled and "error" not in row:
        row["graphs_after_warmup"] = sum(n[arm.name]["graphs"] for n in turns.rounds)
    return row


# ---- peak memory on a CPU ----


def peak_memory(options: argparse.Namespace) -> float:
    """Peak memory of two steps of one arm, in MB, in this process."""
    arm = next(arm for arm in arms(options.exits, False) if arm.name == options.memory_of)
    stepper(arm, *build(options), options).turn(2)
    return peak_of_process()


def add_peaks(
    rows: list[dict[str, Any]], argv: list[str], exits: list[int], report: Any = lambda rows: None
) -> None:
    """Peak memory of each arm up to the first exit, the deeper ones hold no more."""
    names = [arm.name for arm in arms(exits[:1], False)]
    for row in rows:
        if row["name"] not in names or "error" in row:
            continue
        command = [sys.executable, __file__, *argv, "--memory_of", row["name"]]
        # Freed blocks go back to the system at once, so that what is resident is what is in use.
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, **_MALLOC}
        )
        if done.returncode == 0:
            row["peak_mb"] = json.loads(done.stdout.splitlines()[-1])
            report(rows)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = bert_parser(__doc__.split("\n")[0], "step_time.json")
    parser.add_argument("--exits", type=int, nargs="+", default=[1, 3, 6, 12])
    parser.add_argument("--compile", action="store_true", help="main arms also with torch.compile")
    parser.add_argument("--skip", nargs="+", default=[], help="no arms with this in their names")
    parser.add_argument("--no_memory", action="store_true", help="leave out a CPU's memory runs")
    parser.add_argument("--memory_of", help=argparse.SUPPRESS)
    return resolve(parser.parse_args(argv))


def main(argv: list[str]) -> None:
    options = parse(argv)
    if options.memory_of:
        print(json.dumps(peak_memory(options)))
        return
    print(describe_machine(), flush=True)
    command = ["benchmarks/step_time.py", *argv]

    def report(rows: list[dict[str, Any]]) -> None:
        write_result(options.output, options, command, arms=rows)

    rows = measure(options, report)
    if options.device == "cpu" and not options.no_memory:
        add_peaks(rows, argv, options.exits, report)
    report(rows)
    print(table(rows, COLUMNS, width=58))


if __name__ == "__main__":
    main(sys.argv[1:])
