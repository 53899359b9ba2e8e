"""How a step grows: with candidates, keep ratio, length and vocabulary.

One value changes at a time. At each value a stock Trainer and sifting by loss and by entropy at
exit 1 train the same model in turn. The rows have the operation counts beside the measured numbers.
The model is a small one on a CPU and BERT-base on a GPU.

    python benchmarks/growth.py
    python benchmarks/growth.py --sweeps length vocabulary --rounds 3
"""

import sys
from argparse import Namespace
from typing import Any

from bert_steps import bert_parser, build, counted, resolve, stepper
from measured_steps import (
    Arm,
    Row,
    describe_machine,
    device_name,
    measure,
    table,
    write_result,
)

from sift_trainer.selection import num_candidates

COLUMNS = ("step_seconds", "ratio_to_stock", "counted_ratio_to_stock", "overhead")
COLUMNS += ("counted_overhead",)
SMALL = {"hidden": 256, "layers": 4, "vocabulary": 8192}
# Sweep -> its values by device. Half of the candidates are kept where the keep ratio is not swept.
SWEEPS: dict[str, dict[str, list[float]]] = {
    "candidates": {"cpu": [4, 8, 16, 32], "cuda": [32, 64, 128, 256]},
    "keep_ratio": {"cpu": [0.5, 0.25, 0.125], "cuda": [0.75, 0.5, 0.25, 0.125]},
    "length": {"cpu": [32, 64, 128, 256], "cuda": [64, 128, 256, 512]},
    "vocabulary": {"cpu": [2048, 8192, 32768], "cuda": [8192, 30522, 65536, 131072]},
}
DEFAULTS = {"cpu": {"length": 64, "batch_size": 4}, "cuda": {"rounds": 5, "steps": 4}}


def point(sweep: str, value: float, options: Namespace, seconds: float | None) -> list[Row]:
    """One row per arm at one value of a sweep."""
    changes: dict[str, Any] = {}
    if sweep == "candidates":
        changes["batch_size"] = int(value) // 2
    elif sweep != "keep_ratio":
        changes[sweep] = int(value)
    options = Namespace(**{**vars(options), **changes})
    ratio = value if sweep == "keep_ratio" else 0.5
    sift = {
        "sift_exit_layer": 1,
        "sift_warmup_steps": 0,
        "sift_cooldown_steps": 0,
        "sift_keep_ratio": ratio,
    }
    arms = [
        Arm("stock", None),
        *(Arm(by, {**sift, "sift_criterion": by}) for by in ("loss", "entropy")),
    ]
    model, optimizer = build(options)
    rows = measure(
        arms,
        lambda arm: stepper(arm, model, optimizer, options),
        lambda arm: {"ratio_to_stock": "stock"},
        options,
        seconds,
    )
    kept = options.batch_size
    return [
        {
            "sweep": sweep,
            "value": value,
            "arm": arm.name,
            "kept": kept,
            "candidates": num_candidates(kept, ratio) if arm.settings else kept,
            **row,
            "name": f"{arm.name}, {sweep} {value:g}",
            **counted(arm, options),
        }
        for arm, row in zip(arms, rows, strict=True)
    ]


def main(argv: list[str]) -> None:
    small = SMALL if "cpu" in argv or device_name() == "cpu" else {}
    parser = bert_parser(__doc__.split("\n")[0], "growth.json", **small)
    parser.add_argument("--sweeps", nargs="+", choices=sorted(SWEEPS), default=list(SWEEPS))
    parser.add_argument("--values", type=float, nargs="+", help="of the only sweep")
    options = resolve(parser.parse_args(argv), **DEFAULTS)
    if options.values and len(options.sweeps) != 1:
        parser.error(f"--values {options.values} belong to one sweep; add --sweeps length, say")
    print(describe_machine(), flush=True)
    places = [
        (sweep, value)
        for sweep in options.sweeps
        for value in options.values or SWEEPS[sweep][options.device]
    ]
    seconds = None if options.minutes is None else 60 * options.minutes / len(places)
    rows: list[Row] = []
    for sweep, value in places:
        found = point(sweep, value, options, seconds)
        rows += found
        print(table(found, COLUMNS), flush=True)
        write_result(options.output, options, ["benchmarks/growth.py", *argv], points=rows)


if __name__ == "__main__":
    main(sys.argv[1:])
