"""How a step grows: with candidates, keep ratio, length and vocabulary.

One value changes at a time. At each, a stock Trainer and sifting by loss and by entropy at exit 1
train the same model in turn, all values of a sweep in the same rounds; beside what is measured
stands what counting operations gives. The model is a small one on a CPU and BERT-base on a GPU.

    python benchmarks/growth.py
    python benchmarks/growth.py --sweeps length vocabulary --rounds 3
"""

import argparse
import gc
import sys
from typing import Any, NamedTuple

from bert_steps import bert_parser, build, changed, counted, deadline, resolve, stepper
from measured_steps import (
    Arm,
    Turn,
    Turns,
    describe_machine,
    device_name,
    summary,
    table,
    take_turns,
    write_result,
)

from sift_trainer.selection.schedule import num_candidates

STOCK = "stock"
COLUMNS = ("step_seconds", "ratio_to_stock", "counted_ratio_to_stock", "overhead")
COLUMNS += ("counted_overhead",)
SMALL = {"hidden": 256, "layers": 4, "vocabulary": 8192}
# Sweep -> its values; by device where they differ. Candidates are of half as many kept rows.
SWEEPS: dict[str, dict[str, list[float]]] = {
    "candidates": {"cpu": [4, 8, 16, 32], "cuda": [32, 64, 128, 256]},
    "keep_ratio": {"cpu": [0.5, 0.25, 0.125], "cuda": [0.75, 0.5, 0.25, 0.125]},
    "length": {"cpu": [32, 64, 128, 256], "cuda": [64, 128, 256, 512]},
    "vocabulary": {"cpu": [2048, 8192, 32768], "cuda": [8192, 30522, 65536, 131072]},
}
# A sweep's steps are of all sizes: smaller ones, or fewer, than of one size.
DEFAULTS = {"cpu": {"length": 64, "batch_size": 4}, "cuda": {"rounds": 5, "steps": 4}}


class Point(NamedTuple):
    """One value of a sweep: what is built for it, and how much of the candidates is kept."""

    sweep: str
    value: float
    options: argparse.Namespace
    keep_ratio: float

    def arms(self) -> list[Arm]:
        sift = {
            "sift_exit_layer": 1,
            "sift_warmup_steps": 0,
            "sift_cooldown_steps": 0,
            "sift_keep_ratio": self.keep_ratio,
        }
        end = f"{self.sweep} {self.value:g}"
        return [
            Arm(f"{STOCK}, {end}", None),
            Arm(f"loss, {end}", {**sift, "sift_criterion": "loss"}),
            Arm(f"entropy, {end}", {**sift, "sift_criterion": "entropy"}),
        ]


def points(sweep: str, values: list[float], options: argparse.Namespace) -> list[Point]:
    """The values of a sweep, with everything else as the options say."""
    found = []
    for value in values:
        if sweep == "candidates":
            found.append(Point(sweep, value, changed(options, batch_size=int(value) // 2), 0.5))
        elif sweep == "keep_ratio":
            found.append(Point(sweep, value, options, value))
        else:
            found.append(Point(sweep, value, changed(options, **{sweep: int(value)}), 0.5))
    return found


def measure(
    sweep: list[Point], options: argparse.Namespace, until: float | None = None
) -> list[dict[str, Any]]:
    """One row per arm and value: medians over the rounds."""
    built: dict[float, Any] = {}

    def start(point: Point, arm: Arm) -> Turn:
        if point.value not in built:
            built[point.value] = build(point.options)
        taking = stepper(arm, *built[point.value], point.options)
        return lambda: taking.turn(options.steps)

    starts = {
        arm.name: lambda point=point, arm=arm: start(point, arm)
        for point in sweep
        for arm in point.arms()
    }
    turns = take_turns(starts, options.rounds, options.warmup, until)
    return [_row(point, arm, turns) for point in sweep for arm in point.arms()]


def _row(point: Point, arm: Arm, turns: Turns) -> dict[str, Any]:
    row = summary(arm, turns, {"ratio_to_stock": f"{STOCK}, {point.sweep} {point.value:g}"})
    rows = point.options.batch_size
    return {
        "sweep": point.sweep,
        "value": point.value,
        "arm": arm.name.partition(",")[0],
        "kept": rows,
        "candidates": num_candidates(rows, point.keep_ratio) if arm.settings else rows,
        **row,
        **counted(arm, point.options),
    }


def parse(argv: list[str]) -> argparse.Namespace:
    small = SMALL if "cpu" in argv or device_name() == "cpu" else {}
    parser = bert_parser(__doc__.split("\n")[0], "growth.json", **small)
    parser.add_argument("--sweeps", nargs="+", choices=sorted(SWEEPS), default=list(SWEEPS))
    parser.add_argument(
        "--values", type=float, nargs="+", help="of the one sweep that is asked for"
    )
    options = resolve(parser.parse_args(argv), **DEFAULTS)
    if options.values and len(options.sweeps) != 1:
        parser.error(f"--values {options.values} are of one sweep; give --sweeps length, say")
    return options


def main(argv: list[str]) -> None:
    options = parse(argv)
    print(describe_machine(), flush=True)
    rows: list[dict[str, Any]] = []
    for sweep in options.sweeps:
        until = deadline(options, 1 / len(options.sweeps))
        values = options.values or SWEEPS[sweep][options.device]
        found = measure(points(sweep, values, options), options, until)
        gc.collect()  # trainers refer to themselves; their models would stay on the device
        rows += found
        print(table(found, COLUMNS), flush=True)
        write_result(options.output, options, ["benchmarks/growth.py", *argv], points=rows)


if __name__ == "__main__":
    main(sys.argv[1:])
