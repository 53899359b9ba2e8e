"""When does sifting pay? Accuracy at equal cost and cost to equal accuracy, over regimes.

    python benchmarks/time_to_accuracy.py run --data ../shared/data --grid study
    python benchmarks/time_to_accuracy.py report --page docs/when_to_sift.md

Every run trains with the real `SiftTrainer` and decays its learning rate fully to its own last
step. One unit of cost is the forward and backward of a step that does not sift. A sifted step costs
1 + s, where s is what its scoring takes beside that, by processor time. It is measured once for
each regime, criterion, exit and keep ratio, in turns. A budget buys as many steps as it pays for,
so that methods are compared at equal cost, whatever else the machine does. The optimizer, which is
the same for all, and the loading of twice the rows are not charged.

`run` adds a line to the results for each run that is missing, and can be stopped and started.
`--data` is a folder with `books/*.jsonl.xz` (author, text), `wikipedia/wikipedia-00.jsonl.xz`
(text) and `cifar-100/*.parquet`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from study.figure import plot
from study.grids import GRIDS
from study.regimes import REGIMES
from study.results import Results
from study.tables import tables, with_table
from study.training import load, measure_costs, train

RESULTS = Path("docs/benchmarks/time_to_accuracy.jsonl")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train the runs of a grid that the results lack")
    run.add_argument("--grid", choices=sorted(GRIDS), default="study")
    run.add_argument("--regimes", nargs="*", choices=sorted(REGIMES), default=list(REGIMES))
    run.add_argument("--seeds", type=int, nargs="*", help="default: all")
    run.add_argument("--data", type=Path, required=True, help="folder of the originals")
    run.add_argument("--cache", type=Path, default=Path("runs/time_to_accuracy"))
    run.add_argument("--threads", type=int, default=1)
    run.add_argument("--use_cpu", action="store_true", help="even if there is a GPU")
    report = commands.add_parser("report", help="make the tables and the figure of the results")
    report.add_argument("--page", type=Path, help="put them there; default: print the tables")
    for command in (run, report):
        command.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    results = Results(options.results)
    if options.command == "run":
        torch.set_num_threads(options.threads)
        for name in options.regimes:
            run_regime(results, name, options)
    elif options.page is None:
        print("\n".join(tables(results.lines).values()))
    else:
        page = options.page.read_text(encoding="utf-8")
        for name, table in tables(results.lines).items():
            page = with_table(page, name, table)
        options.page.write_text(page, encoding="utf-8")
        plot(results.lines, options.page.parent)


def run_regime(results: Results, name: str, options: argparse.Namespace) -> None:
    """Train what is missing."""
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
    for number, spec in enumerate(specs, start=1):
        line = train(results, spec, regime, data, options.use_cpu)
        print(
            f"{name} {number} of {len(specs)}: {spec.method}, seed {spec.seed}, budget "
            f"{spec.budget:g}, rate {spec.rate:g}: accuracy {line['accuracy']:.4f}, trained "
            f"{line['trained_loss']:.3f}, {line['processor_seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )


if __name__ == "__main__":
    main()
