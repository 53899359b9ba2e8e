"""Tables 2 to 5 of the paper, test accuracies over learning rates, with measured columns."""

from collections.abc import Mapping, Sequence
from statistics import mean

from sift_trainer.reproduction import paper
from sift_trainer.reproduction.report.groups import Comparison, Group
from sift_trainer.reproduction.report.page import Table
from sift_trainer.reproduction.report.statistics import NONE, spread

_METHODS = ("baseline", "early exit", "last exit")
_NOTE = "Test accuracy in percent after the last update, the best of each column in bold. "


def image_tables(comparisons: Sequence[Comparison]) -> list[tuple[str, Table, str]]:
    """Title, table and note for one data set: of the same time, and of the same updates.

    A table without a sifted run is left out. If a method has runs at one learning rate in several
    comparisons, each comparison is a row.
    """
    dataset = comparisons[0].dataset
    tables = []
    for same_time, kind in ((True, "same training time"), (False, "same number of updates")):
        rows = [
            (comparison.rate, methods)
            for comparison in comparisons
            if (methods := _methods(comparison, same_time)).keys() - {_METHODS[0]}
        ]
        if not rows:
            continue
        name, note = "As Tables 2 to 5", "Empty: no whole run here. The paper has no such table."
        key = (dataset or "", same_time)
        theirs = paper.IMAGE_TABLES.get(key, {})
        if theirs:
            name = f"Table {2 + list(paper.IMAGE_TABLES).index(key)}"
            note = (
                "Empty: no whole run here, or no such run in the paper. A dash in the paper's "
                "columns: the run did not converge."
            )
        rows += [(rate, {}) for rate in theirs if rate not in {rate for rate, _ in rows}]
        rows.sort(key=lambda row: -row[0])
        tables.append((f"{name}: {dataset}, {kind}", _table(rows, theirs), _NOTE + note))
    return tables


def _methods(comparison: Comparison, same_time: bool) -> dict[str, Group]:
    """The configurations that have a column in the paper's tables; the first of each."""
    methods: dict[str, Group] = {}
    for group in comparison.groups:
        by_the_paper = group.is_the_papers and group.sift("criterion") == "loss"
        timed = group.first.setting("duration", "train_seconds")
        if group.is_baseline:
            methods.setdefault(_METHODS[0], group)
        elif by_the_paper and group.same_time == same_time and not timed:
            methods.setdefault(_METHODS[1 + group.is_last_exit], group)
    return methods


def _table(
    rows: Sequence[tuple[float, Mapping[str, Group]]],
    theirs: Mapping[float, Sequence[float | None]],
) -> Table:
    columns = {"max_lr": [f"{rate:g}" for rate, _ in rows]}
    for index, method in enumerate(_METHODS):
        if theirs:
            papers = [theirs[rate][index] if rate in theirs else None for rate, _ in rows]
            cells = [
                ("" if rate not in theirs else NONE) if value is None else f"{value:.2f}"
                for (rate, _), value in zip(rows, papers, strict=True)
            ]
            columns[f"paper: {method}"] = _best_in_bold(cells, papers)
        found = [groups.get(method) for _, groups in rows]
        means = [
            mean(run.final.accuracy for run in group.runs) if group else None for group in found
        ]
        cells = [
            spread([100 * run.final.accuracy for run in group.runs], ".2f") if group else ""
            for group in found
        ]
        columns[f"measured: {method}" if theirs else method] = _best_in_bold(cells, means)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _best_in_bold(cells: Sequence[str], values: Sequence[float | None]) -> list[str]:
    best = max((value for value in values if value is not None), default=None)
    return [
        f"**{cell}**" if value is not None and value == best else cell
        for cell, value in zip(cells, values, strict=True)
    ]
