"""Which runs of `time_to_accuracy.py` are compared."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from study.charge import Frontier
from study.grids import TUNING_SEED, rate_of

Line = Mapping[str, Any]


def compared_runs(runs: Iterable[Line]) -> dict[str, dict[float, list[Line]]]:
    """Method -> budget -> runs of the compared seeds, at the regime's own learning rate."""
    found: dict[str, dict[float, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for line in runs:
        if line["seed"] != TUNING_SEED and line["rate"] == rate_of(line["regime"], line["method"]):
            found[line["method"]][line["budget"]].append(line)
    return found


def frontier_of(runs: Iterable[Line], steps: int) -> Frontier | None:
    """What vanilla reaches at what cost, None before it was trained at two budgets."""
    budgets = compared_runs(runs).get("vanilla", {})
    if len(budgets) < 2:
        return None
    return Frontier({b * steps: [line["accuracy"] for line in own] for b, own in budgets.items()})


def beside(own: Sequence[Line], other: Sequence[Line]) -> list[float]:
    """Differences in accuracy to runs with the same seeds."""
    known = {line["seed"]: line["accuracy"] for line in other}
    return [line["accuracy"] - known[line["seed"]] for line in own if line["seed"] in known]
