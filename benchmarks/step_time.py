"""Step time and peak memory: stock Trainer, equally optimised vanilla, naive sifting, this sifting.

All arms train the same BERT in one process, in turn. Printed are medians over the rounds with their
spread, and ratios to the stock step of the same round. *Vanilla* does not sift, but computes head
and last block on labelled positions as sifting does. *Naive* sifting computes its head on all
positions and prunes nothing, in training and in scoring. Peak memory on a GPU is what an arm
allocated in its turns; on a CPU it is the memory of a process that takes two steps of that arm.

    python benchmarks/step_time.py       # CPU: length 128, 8 kept of 16; GPU: 512, 32 of 64, bf16
    python benchmarks/step_time.py --compile --exits 1        # also with torch.compile
    python benchmarks/step_time.py --layers 4 --hidden 256 --length 64 --exits 1    # a small model
"""

import json
import os
import subprocess
import sys
from argparse import SUPPRESS, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bert_steps import bert_parser, build, counted, resolve, stepper
from measured_steps import Arm, Row, describe_machine, measure, table, write_result

STOCK, VANILLA = "stock Trainer", "vanilla, labelled-only head"
COMPILED = ", compiled"
COLUMNS = ("ratio_to_stock", "processor_ratio_to_stock", "overhead", "counted_overhead", "peak_mb")
# The allocator returns freed blocks at once, so that resident memory is memory in use.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def arms(options: Namespace, compiled: bool) -> list[Arm]:
    """The arms that the options choose, with the compiled ones last."""
    off = {"sift_keep_ratio": 1.0}
    chosen = [
        Arm(STOCK, None),
        Arm("SiftTrainer, not sifting", off),
        Arm(VANILLA, {**off, "sift_masked_only_head": True}),
    ]
    for k in options.exits:
        loss: dict[str, Any] = {"sift_exit_layer": k, "sift_warmup_steps": 0}
        loss |= {"sift_criterion": "loss", "sift_selector": "top_k"}
        if options.keep_ratio != 0.5:
            loss["sift_keep_ratio"] = options.keep_ratio
        both = {"loss": loss, "entropy": {**loss, "sift_criterion": "entropy"}}
        chosen += [
            Arm(f"naive sifting by {by}, exit {k}", {**sift, "sift_masked_only_head": False})
            for by, sift in both.items()
        ]
        chosen += [Arm(f"sifting by {by}, exit {k}", sift) for by, sift in both.items()]
        if k == 1:
            chosen += [
                Arm(
                    f"sifting by {by}, exit 1, a quarter of the labels",
                    {**sift, "sift_token_fraction": 0.25},
                )
                for by, sift in both.items()
            ]
    if compiled:
        plain = {arm.name: arm for arm in chosen}
        first = options.exits[0]
        names = [STOCK, VANILLA, *(f"sifting by {by}, exit {first}" for by in ("loss", "entropy"))]
        names.append(f"naive sifting by loss, exit {first}")
        chosen += [Arm(name + COMPILED, plain[name].settings, compiled=True) for name in names]
    return [arm for arm in chosen if not any(part in arm.name for part in options.skip)]


def references(arm: Arm) -> dict[str, str]:
    """A compiled arm is compared with the compiled stock step."""
    suffix = COMPILED if arm.compiled else ""
    found = {"ratio_to_stock": STOCK + suffix, "ratio_to_vanilla": VANILLA + suffix}
    return {**found, "ratio_to_uncompiled_stock": STOCK} if arm.compiled else found


def step_times(options: Namespace, report: Callable[[list[Row]], None]) -> list[Row]:
    """One row per arm."""
    model, optimizer = build(options)
    chosen = arms(options, options.compile)
    if options.compile:
        # One function, such as a block's forward, is compiled for each arm. Beyond the usual limit
        # the last arms would silently run uncompiled.
        from torch import _dynamo

        _dynamo.config.recompile_limit = 64

    def with_counts(rows: list[Row]) -> list[Row]:
        return [row | counted(arm, options) for arm, row in zip(chosen, rows, strict=True)]

    rows = measure(
        chosen,
        lambda arm: stepper(arm, model, optimizer, options),
        references,
        options,
        None if options.minutes is None else 60 * options.minutes,
        lambda rows: report(with_counts(rows)),
    )
    return with_counts(rows)


# ---- peak memory on a CPU ----


def peak_memory(options: Namespace) -> float:
    """Peak resident memory in MB of this process, which takes two steps of one arm.

    `getrusage` would begin with the peak of the parent process.
    """
    arm = next(arm for arm in arms(options, False) if arm.name == options.memory_of)
    stepper(arm, *build(options), options).turn(2)
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def add_peaks(rows: list[Row], argv: list[str], options: Namespace) -> None:
    """Add the peak memory of the arms up to the first exit. Deeper exits hold no more."""
    deeper = [f"exit {k}" for k in options.exits[1:]]
    for row in rows:
        if "error" in row or row["compiled"] or row["name"].endswith(tuple(deeper)):
            continue
        command = [sys.executable, __file__, *argv, "--memory_of", row["name"]]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, **_MALLOC}
        )
        if done.returncode == 0:
            row["peak_mb"] = json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str]) -> None:
    parser = bert_parser(__doc__.split("\n")[0], "step_time.json")
    parser.add_argument("--exits", type=int, nargs="+", default=[1, 3, 6, 12])
    parser.add_argument("--keep_ratio", type=float, default=0.5)
    parser.add_argument("--compile", action="store_true", help="main arms also with torch.compile")
    parser.add_argument("--skip", nargs="+", default=[], help="no arms with this in their names")
    parser.add_argument("--no_memory", action="store_true", help="leave out a CPU's memory runs")
    parser.add_argument("--memory_of", help=SUPPRESS)
    options = resolve(parser.parse_args(argv))
    if options.memory_of:
        print(json.dumps(peak_memory(options)))
        return
    print(describe_machine(), flush=True)

    def report(rows: list[Row]) -> None:
        write_result(options.output, options, ["benchmarks/step_time.py", *argv], arms=rows)

    rows = step_times(options, report)
    if options.device == "cpu" and not options.no_memory:
        add_peaks(rows, argv, options)
    report(rows)
    print(table(rows, COLUMNS, width=58))


if __name__ == "__main__":
    main(sys.argv[1:])
