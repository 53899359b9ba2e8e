"""What the numbers of a comparison do not show, in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from sift_trainer.reproduction import paper
from sift_trainer.reproduction.report.groups import MASKED_LM, Comparison, Group
from sift_trainer.reproduction.report.history import Run


def caveats(comparison: Comparison) -> list[str]:
    """First what puts the results in question, then the times."""
    machines = machines_of(comparison.runs)
    where = [f"{machine} ({', '.join(names)})" for machine, names in machines.items()]
    named = {
        "These runs are smaller or larger than the paper's, whose numbers neither confirm nor"
        " contradict them": _differences_in_size(comparison),
        "A single seed, and seeds may differ as much as these runs": [
            group.label for group in comparison.groups if len({run.seed for run in group.runs}) < 2
        ],
        "The learning rate was not fully decayed, or not logged at the end, so these runs may end"
        " below what they could reach, and gains over them may vanish": [
            text for run in comparison.runs if (text := _undecayed(run))
        ],
        "There is no baseline that differs in sifting alone from": (
            [] if comparison.baseline else [group.label for group in comparison.groups]
        ),
        "Machines differ, and times on different machines are not compared": (
            where if len(where) > 1 else []
        ),
    }
    return [f"{text}: {', '.join(names)}." for text, names in named.items() if names]


def machines_of(runs: Sequence[Run]) -> Mapping[str, list[str]]:
    """Machine -> names of the runs that were on it."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for machine in sorted(run.machines):
            found.setdefault(machine, []).append(run.name)
    return found


def _undecayed(run: Run) -> str:
    """A run that did not end at 1% of its highest learning rate or less, with the last one.

    The last step of a short linear schedule uses a rate of one step's height, which counts too.
    """
    step, rate = run.rates[-1] if run.rates else (0, 1.0)
    peak, end = max((rate for _, rate in run.rates), default=1.0), run.final.spent.step
    if rate <= peak * max(0.01, 2 / end):
        return ""
    return f"{run.name} ({rate / peak:.0%} of its peak at update {step:,.0f} of {end:,.0f})"


def _differences_in_size(comparison: Comparison) -> list[str]:
    """Where the runs have not the size of the paper's; none for an experiment that it lacks."""
    masked = comparison.measure == MASKED_LM
    theirs = paper.BERT_SETTING if masked else paper.IMAGE_SETTINGS.get(comparison.dataset, {})
    found = []
    for name, value in theirs.items():
        here = [each for group in comparison.groups if (each := _size(group, name)) is not None]
        if set(map(_text, here)) - {_text(value)}:
            text = " or ".join(dict.fromkeys(map(_text, here)))
            found.append(f"{name.rpartition('.')[2]} {text}, not {_text(value)}")
    return found


def _size(group: Group, name: str) -> Any:
    spent = group.runs[0].final.spent
    if name == "updates":
        return None if group.same_time else spent.step
    if name == "rows of an update":
        return round(spent.backprop_samples / spent.step)
    return group.setting(*name.split("."))


def _text(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, (int, float)) else str(value)
