"""Cells of the tables of `time_to_accuracy.py`."""

from collections.abc import Sequence
from statistics import mean

from study.charge import Frontier, Ratio


def ratio_cell(frontier: Frontier, cost: float, accuracies: Sequence[float]) -> str:
    """Cost over vanilla's at the same accuracy: of the mean, then of the best and worst seed."""
    of_mean = frontier.ratio(cost, mean(accuracies))
    if len(accuracies) == 1:
        return str(of_mean)
    best, worst = (frontier.ratio(cost, pick(accuracies)) for pick in (max, min))
    return f"{of_mean} ({best} to {worst})"


def pays(frontier: Frontier, cost: float, accuracies: Sequence[float], most: float) -> bool:
    """Whether every seed needs at most ``most`` of vanilla's cost."""
    ratios: list[Ratio] = [frontier.ratio(cost, each) for each in accuracies]
    return all(each.bound != ">" and each.value <= most for each in ratios)


def spread(values: Sequence[float], digits: int) -> str:
    """The mean, then the lowest and the highest."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    low, high = min(values), max(values)
    return f"{mean(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
