"""What the gate did in the regimes of `time_to_accuracy.py`, beside sifting without and vanilla."""

from collections.abc import Sequence
from statistics import mean

from sift_trainer.probe.markdown import markdown
from study.cells import ratio_cell, spread
from study.charge import audited, sifted_steps
from study.compared import Line, compared_runs, frontier_of
from study.methods import METHODS
from study.regimes import REGIMES
from study.results import runs_of


def gated(lines: Sequence[Line]) -> str:
    """Of each gated method, how many of the steps that the schedule lets sift did, and what it came
    to for what it really cost."""
    rows = [
        [
            *("regime", "gate towards", "seeds", "steps sifted", "audits' share", "vanilla"),
            *("sifted by the schedule", "gated", "at a cost of", "cost to equal accuracy"),
        ]
    ]
    for name, regime in REGIMES.items():
        runs = runs_of(lines, name)
        frontier, found = frontier_of(runs, regime.steps), compared_runs(runs)
        if frontier is None:
            continue
        for method, budgets in found.items():
            sift = METHODS[method].sift
            if "sift_gate" not in sift or 1.0 not in budgets:
                continue
            own = budgets[1.0]
            free = {key: value for key, value in sift.items() if key not in _OF_GATE}
            without = next(each for each in METHODS if METHODS[each].sift == free)
            possible = mean(sifted_steps(line["settings"]["steps"], sift) for line in own)
            accuracies = [line["accuracy"] for line in own]
            cost = mean(line["cost"] for line in own)
            audits = mean(audited(line["settings"]["steps"], sift) / line["cost"] for line in own)
            rows.append(
                [
                    name,
                    sift.get("sift_held_out", "candidates"),
                    str(len(own)),
                    f"{mean(line['sifted_steps'] for line in own) / possible:.0%}",
                    f"{audits:.1%}",
                    *(_accuracy(found, each) for each in ("vanilla", without)),
                    spread(accuracies, 4),
                    f"{cost / regime.steps:.3f}",
                    ratio_cell(frontier, cost, accuracies),
                ]
            )
    return markdown(rows)


_OF_GATE = {"sift_gate", "sift_audit_steps", "sift_held_out"}


def _accuracy(found: dict[str, dict[float, list[Line]]], method: str) -> str:
    own = found.get(method, {}).get(1.0, [])
    return f"{mean(line['accuracy'] for line in own):.4f}" if own else "-"
