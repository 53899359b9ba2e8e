"""When does sifting pay? Accuracy at equal cost and cost to equal accuracy, over regimes.

    python benchmarks/time_to_accuracy.py run --data ../shared/data --grid tuning
    python benchmarks/time_to_accuracy.py run --data ../shared/data --grid study
    python benchmarks/time_to_accuracy.py probe --data ../shared/data
    python benchmarks/time_to_accuracy.py report --page docs/when_to_sift.md

Every run trains with the real `SiftTrainer` and decays its learning rate fully to its own last
step. One unit of cost is the forward and backward of a step that does not sift; a sifted step
costs 1 + s, where s is what its scoring takes beside that, by processor time, measured once for
each regime, criterion, exit and keep ratio, in turns. A budget buys as many steps as it pays for,
so that methods are compared at equal cost, whatever else the machine does. Not charged are the
optimizer, the same for all, and the loading of twice the rows.

`run` adds a line to the results for each run that is not there yet, and can be stopped and
started. `--data` is a folder with `books/*.jsonl.xz` (author, text),
`wikipedia/wikipedia-00.jsonl.xz` (text) and `cifar-100/*.parquet`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from study.grids import BEGIN, FOR_GPU, GRIDS
from study.kinds import load
from study.page import tables, write_page
from study.regimes import REGIMES
from study.results import Results
from study.runs import measure_costs, probe_at, train

from sift_trainer.arguments import HELD_OUT

RESULTS = Path("docs/benchmarks/time_to_accuracy.jsonl")


def main(argv: Sequence[str] | None = None) -> None:
    options = parser().parse_args(argv)
    results = Results(options.results)
    if options.command == "report":
        if options.page is None:
            print("\n\n".join(table.strip() for table in tables(results.lines).values()))
        else:
            write_page(results.lines, options.page)
        return
    torch.set_num_threads(options.threads)
    options.until = time.monotonic() + 60 * getattr(options, "minutes", float("inf"))
    for name in chosen(options.regimes):
        if options.command == "probe":
            _probe(results, name, options)
        else:
            _run(results, name, options)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = made.add_subparsers(dest="command", required=True)
    for name, told in (
        ("run", "train the runs of a grid that are not in the results yet"),
        ("probe", "probe each regime at a checkpoint where sifting begins"),
        ("report", "make tables and figures of the results"),
    ):
        command = commands.add_parser(name, help=told)
        command.add_argument("--results", type=Path, default=RESULTS)
        if name == "report":
            command.add_argument(
                "--page", type=Path, help="put tables and figures there; unset: print the tables"
            )
            continue
        command.add_argument("--regimes", nargs="*", default=None, help="default: all")
        command.add_argument("--data", type=Path, required=True, help="folder of the originals")
        command.add_argument("--cache", type=Path, default=Path("runs/time_to_accuracy"))
        command.add_argument("--threads", type=int, default=1)
        command.add_argument("--use_cpu", action="store_true", help="even beside a GPU")
        if name == "run":
            command.add_argument("--grid", choices=sorted(GRIDS), default="study")
            command.add_argument("--seeds", type=int, nargs="*", default=None, help="default: all")
            command.add_argument(
                "--minutes",
                type=float,
                default=float("inf"),
                help="begin no run that, at the time of the longest so far, would end later",
            )
        else:
            command.add_argument("--seconds", type=float, default=180, help="of each probe")
            command.add_argument(
                "--held_out", nargs="+", choices=HELD_OUT, default=HELD_OUT, help="default: both"
            )
    return made


def chosen(names: Sequence[str] | None) -> list[str]:
    """Names of regimes; by default all of them that this machine is made for.

    Raises:
        ValueError: one is unknown.
    """
    for name in names or ():
        if name not in REGIMES:
            raise ValueError(f"regimes={name!r} is unknown; choose of {', '.join(REGIMES)}")
    possible = [name for name in REGIMES if torch.cuda.is_available() or name not in FOR_GPU]
    return list(names or possible)


def _run(results: Results, name: str, options: argparse.Namespace) -> None:
    specs = [
        spec
        for spec in GRIDS[options.grid](name)
        if results.find_run(spec) is None and (options.seeds is None or spec.seed in options.seeds)
    ]
    if not specs:
        return
    regime = REGIMES[name]
    data = load(regime, options.data, options.cache)
    methods = list(dict.fromkeys(spec.method for spec in specs))
    measure_costs(results, name, regime, data, methods)
    longest = 0.0
    for number, spec in enumerate(specs, start=1):
        begin = time.monotonic()
        if begin + longest > options.until:
            print(f"{name}: {len(specs) - number + 1} left for another time", file=sys.stderr)
            return
        line = train(results, spec, regime, data, options.use_cpu)
        longest = max(longest, time.monotonic() - begin)
        print(
            f"{name} {number} of {len(specs)}: {spec.method}, seed {spec.seed}, budget "
            f"{spec.budget:g}, rate {spec.rate:g}: accuracy {line['accuracy']:.4f}, trained "
            f"{line['trained_loss']:.3f}, {line['processor_seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def _probe(results: Results, name: str, options: argparse.Namespace) -> None:
    for held_out in options.held_out:
        if results.find("probe", regime=name, begin=BEGIN, held_out=held_out) is not None:
            continue
        regime = REGIMES[name]
        data = load(regime, options.data, options.cache)
        asked = regime, data, BEGIN, options.use_cpu, options.seconds, held_out
        line = probe_at(results, name, *asked)
        print(f"{name}, {held_out}: {line['recommendation']}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
