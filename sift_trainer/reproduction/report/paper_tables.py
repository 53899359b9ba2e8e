"""The tables of the paper with measured columns beside its own."""

from collections.abc import Mapping, Sequence

from sift_trainer.reproduction import paper
from sift_trainer.reproduction.report.groups import NONE, Comparison, Group, ratio, spread
from sift_trainer.reproduction.report.page import Table

NOTE = (
    "Accuracies are those at the last step; several seeds have their mean, the lowest and the "
    f"highest. Sampling is a share of forward and backward: the paper's of {paper.FORWARD_HOURS} + "
    f"{paper.BACKWARD_HOURS} h."
)
_METHODS = ("baseline", "early exit", "last exit")

Place = tuple[str | None, int | None]
"""Criterion and exit of a row of Table 1; no criterion for the baseline, no exit for a run that the
paper does not have."""


def rows_of_table_1(comparison: Comparison) -> list[tuple[Place, Group | None]]:
    """The rows of the paper in its order with the measured runs, then the other runs.

    The last exit of a model of any depth belongs to the paper's last exit, the others to the exits
    of the same number.
    """
    wanted: list[Place] = [(None, None)]
    wanted += [(name, layer) for name, row in paper.ACCURACY.items() for layer in row]
    measured = [(_place(group), group) for group in comparison.groups]
    rows: list[tuple[Place, Group | None]] = []
    for place in wanted:
        rows += [row for row in measured if row[0] == place] or [(place, None)]
    return rows + [row for row in measured if row[0] not in wanted]


def _place(group: Group) -> Place:
    if group.is_baseline:
        return None, None
    layer = paper.BERT_LAYERS if group.exit_layer == group.depth else group.exit_layer
    return group.sift("criterion"), layer if group.is_the_papers else None


def table_1_and_6(comparison: Comparison) -> Table:
    """Validation accuracy at the last step, and the cost of sampling."""
    computed = paper.FORWARD_HOURS + paper.BACKWARD_HOURS
    rows = []
    for (criterion, layer), group in rows_of_table_1(comparison):
        hours = paper.SAMPLING_HOURS.get(criterion or "", {}).get(layer or 0)
        theirs = paper.ACCURACY.get(criterion or "", {}).get(layer or 0)
        gain = None if theirs is None else theirs - paper.BASELINE_ACCURACY
        runs = group.runs if group else []
        shares = [_share(run.final.spent.seconds) for run in runs]
        baseline = criterion is None
        exit_layer = f"{group.exit_layer} of {group.depth}" if group else str(layer)
        rows.append(
            {
                "algorithm": "Baseline" if baseline else f"{criterion}-based".capitalize(),
                "layer": NONE if baseline else exit_layer,
                "paper": spread([paper.BASELINE_ACCURACY if baseline else theirs], ".4f"),
                "measured": spread([run.final.accuracy for run in runs], ".4f"),
                "paper: to baseline": spread([gain], "+.4f"),
                "measured: to baseline": spread([comparison.gain(group)], "+.4f"),
                "paper: sampling": spread([ratio(hours, computed)], ".1%"),
                "measured: sampling": spread(shares, ".1%"),
                "seeds": str(len(runs)),
                "run": group.label if group else NONE,
            }
        )
    return rows


def _share(seconds: Mapping[str, float]) -> float | None:
    return ratio(seconds["sampling"], seconds["forward"] + seconds["backward"]) or None


def image_table(comparisons: Sequence[Comparison], same_time: bool) -> Table:
    """One of Tables 2 to 5: test accuracy in percent by learning rate."""
    theirs = paper.IMAGE_TABLES[comparisons[0].dataset, same_time]
    found = [(each.rate, _methods(each, same_time)) for each in comparisons]
    found += [(rate, {}) for rate in theirs.keys() - {rate for rate, _ in found}]
    rows = []
    for rate, groups in sorted(found, key=lambda each: -each[0]):
        row = {"max_lr": f"{rate:g}"}
        for method, value in zip(_METHODS, theirs.get(rate, [None] * 3), strict=True):
            runs = groups[method].runs if method in groups else []
            row[f"paper: {method}"] = spread([value], ".2f")
            row[f"measured: {method}"] = spread([100 * run.final.accuracy for run in runs], ".2f")
        rows.append(row)
    return rows


def _methods(comparison: Comparison, same_time: bool) -> dict[str, Group]:
    """The configurations that have a column in the paper's tables; the first of each."""
    methods: dict[str, Group] = {}
    for group in comparison.groups:
        by_the_paper = group.is_the_papers and group.sift("criterion") == "loss"
        timed = group.setting("duration", "train_seconds")
        if group.is_baseline:
            methods.setdefault(_METHODS[0], group)
        elif by_the_paper and group.same_time == same_time and not timed:
            methods.setdefault(_METHODS[1 + (group.exit_layer == group.depth)], group)
    return methods
