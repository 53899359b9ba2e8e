"""Runs side by side, as Markdown. A run of a grid is named ``cell/run``, see `config.Config`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sift_trainer.checkpoints.whole_files import write_json, write_text
from sift_trainer.report import Run
from sift_trainer.run_log import machine

REFERENCES = ("vanilla", "baseline")
_COLUMNS = ("sampling", "forward", "backward", "optimizer", "data")


def table(runs: Iterable[Run], reference: str | None = None) -> str:
    """Two Markdown tables with a row per run, at its last evaluation.

    `reference` is the run that the others of its cell are held to; by default one named vanilla or
    baseline.

    The first has the accuracies and the training time, as difference and ratio to `reference`, and
    when the reference's last accuracy was reached, as a share of the reference's own time (the
    paper's 43 h of 57 h is 0.75x). The second has the seconds of each phase, and the samples.
    """
    runs = list(runs)
    wanted = REFERENCES if reference is None else (reference,)
    bases = {cell_of(run.name): run for run in runs if _short(run.name) in wanted}
    reference = next((_short(base.name) for base in bases.values()), wanted[0])
    pairs = any(run.final.nsp_accuracy is not None for run in runs)
    reached = [
        *("run", runs[0].measure, f"vs {reference}"),
        *(["NSP accuracy"] if pairs else []),
        *("seconds", f"vs {reference}", f"reached {reference}'s accuracy"),
    ]
    spent = ["run", *(f"{phase} (s)" for phase in _COLUMNS), "backpropagated", "candidates"]
    return (
        markdown([reached, *(_reached(run, bases.get(cell_of(run.name)), pairs) for run in runs)])
        + "\n"
        + markdown([spent, *(_spent(run) for run in runs)])
    )


def grid_table(runs: Sequence[Run]) -> str:
    """A Markdown table with a row per cell of the grid and a column per run, as the paper's Tables
    2 to 5: the last accuracy in percent, the best of each column in bold, `-` where there is none
    (yet)."""
    cells = list(dict.fromkeys(cell_of(run.name) for run in runs))
    names = list(dict.fromkeys(_short(run.name) for run in runs))
    found = {run.name: 100 * run.final.accuracy for run in runs}
    best = {
        name: max(found[run.name] for run in runs if _short(run.name) == name) for name in names
    }

    def entry(cell: str, name: str) -> str:
        value = found.get(f"{cell}/{name}")
        if value is None:
            return "-"
        return f"**{value:.2f}**" if value == best[name] else f"{value:.2f}"

    rows = [[cell, *(entry(cell, name) for name in names)] for cell in cells]
    return markdown([[f"{runs[0].measure} (%)", *names], *rows])


def write_report(folder: str | Path, runs: Sequence[Run], settings: Mapping[str, Any]) -> str:
    """Write `table.md` and `results.json`, with `settings` and the machine; return the tables."""
    text = table(runs)
    if any(cell_of(run.name) for run in runs):
        text = f"{grid_table(runs)}\n{text}"
    result = {"machine": machine(), **settings, "runs": [asdict(run) for run in runs]}
    write_json(Path(folder) / "results.json", result)
    write_text(Path(folder) / "table.md", text)
    return text


def cell_of(name: str) -> str:
    """The cell of the grid that a run is in; empty without a grid."""
    return name.rpartition("/")[0]


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _reached(run: Run, base: Run | None, pairs: bool) -> list[str]:
    final, seconds = run.final, run.final.spent.total_seconds
    difference = ratio = reached = "-"
    if base is not None:
        whole = base.final.spent.total_seconds
        difference = f"{final.accuracy - base.final.accuracy:+.4f}"
        ratio = f"{seconds / whole:.2f}x"
        moment = run.seconds_to(base.final.accuracy)
        reached = "never" if moment is None else f"after {moment / whole:.2f}x"
    nsp = "-" if final.nsp_accuracy is None else f"{final.nsp_accuracy:.4f}"
    return [
        *(run.name, f"{final.accuracy:.4f}", difference),
        *([nsp] if pairs else []),
        *(f"{seconds:.1f}", ratio, reached),
    ]


def _spent(run: Run) -> list[str]:
    spent = run.final.spent
    seconds = [f"{spent.seconds[phase]:.1f}" for phase in _COLUMNS]
    return [run.name, *seconds, f"{spent.backprop_samples:.0f}", f"{spent.candidates:.0f}"]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table of which the first row is the head; columns line up in plain text too."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [
        [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        for row in (rows[0], rule, *rows[1:])
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
