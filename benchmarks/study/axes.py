"""What each change of a usual way to sift came to, for `time_to_accuracy.py`."""

from collections.abc import Sequence
from statistics import mean

from sift_trainer.probe.markdown import markdown
from study.cells import ratio_cell, spread
from study.compared import Line, beside, compared_runs, frontier_of
from study.grids import AXES, changed_methods
from study.methods import METHODS
from study.regimes import REGIMES
from study.results import runs_of


def changed(lines: Sequence[Line]) -> str:
    """A table for each regime of the grid ``axes``: the usual way to sift, then a row for each
    change, its accuracy beside that of the usual way with the same seeds."""
    parts = []
    for name, (base, _) in AXES.items():
        runs = runs_of(lines, name)
        frontier, found = frontier_of(runs, REGIMES[name].steps), compared_runs(runs)
        usual = found.get(base, {}).get(1.0, [])
        seeds = {line["seed"] for line in usual}
        rows = [["changed", "seeds", "steps", "accuracy", "beside it", "cost to equal accuracy"]]
        for method in (base, *changed_methods(name)):
            own = [line for line in found.get(method, {}).get(1.0, []) if line["seed"] in seeds]
            if not own or frontier is None:
                continue
            accuracies = [line["accuracy"] for line in own]
            rows.append(
                [
                    *(METHODS[method].told.split("; ")[-1], str(len(own))),
                    *(str(own[0]["settings"]["steps"]), spread(accuracies, 4)),
                    "" if method == base else f"{mean(beside(own, usual)):+.4f}",
                    ratio_cell(frontier, REGIMES[name].steps, accuracies),
                ]
            )
        if len(rows) > 2:
            parts.append(f"**{name}**\n\n{markdown(rows)}")
    return "\n".join(parts)
