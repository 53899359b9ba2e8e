"""Tables 2 to 5 of the paper, test accuracies over learning rates, with measured columns."""

from collections.abc import Mapping, Sequence

from sift_trainer import paper
from sift_trainer.reporting.groups import Comparison, Group
from sift_trainer.reporting.page import Block, Heading, Table
from sift_trainer.reporting.statistics import spread

METHODS = ("baseline", "early exit", "last exit")
_KINDS = {True: "same training time", False: "same number of updates"}


def image_tables(comparisons: Sequence[Comparison]) -> list[Block]:
    """Of one data set: the tables of which a sifted run is there, the one of the same time first.

    The runs of a method and a learning rate that are in several comparisons are apart by rows.
    """
    dataset = comparisons[0].dataset
    blocks: list[Block] = []
    for same_time in (True, False):
        table = _table(comparisons, same_time)
        if table is None:
            continue
        number = next(
            (
                number
                for number, each in paper.IMAGE_TABLES.items()
                if (each.dataset, each.same_time) == (dataset, same_time)
            ),
            None,
        )
        name = "As Tables 2 to 5" if number is None else f"Table {number}"
        blocks += [Heading(3, f"{name}: {dataset}, {_KINDS[same_time]}"), table]
    return blocks


def _method(group: Group, same_time: bool) -> str | None:
    """The column that a configuration is in; None for what the paper's tables do not have."""
    if group.is_baseline:
        return METHODS[0]
    if group.sift("criterion") != "loss" or not group.is_the_papers:
        return None
    if group.same_time != same_time or group.first.setting("duration", "train_seconds"):
        return None
    return METHODS[2] if group.is_last_exit else METHODS[1]


def _table(comparisons: Sequence[Comparison], same_time: bool) -> Table | None:
    rates: dict[str, float] = {}
    found: dict[str, dict[str, Group]] = {}
    for comparison in comparisons:
        columns = {
            method: group
            for group in reversed(comparison.groups)
            if (method := _method(group, same_time)) is not None
        }
        rate = comparison.groups[0].first.setting("training", "learning_rate")
        if columns.keys() & set(METHODS[1:]) and rate is not None:
            found[comparison.name] = columns
            rates[comparison.name] = rate
    if not found:
        return None
    theirs = _paper_rows(comparisons[0].dataset, same_time)
    best = {method: _best(found, method) for method in METHODS}
    order: list[tuple[float, str | None]] = [(rates[name], name) for name in found]
    order += [(rate, None) for rate in theirs if rate not in rates.values()]
    kinds = ("paper: ", "measured: ") if theirs else ("",)
    rows = [["max_lr", *(f"{kind}{name}" for name in METHODS for kind in kinds)]]
    for rate, name in sorted(order, key=lambda each: -each[0]):
        cells = [f"{rate:g}"]
        for index, method in enumerate(METHODS):
            group = None if name is None else found[name].get(method)
            cells += [_paper(theirs, rate, index)] if theirs else []
            cells.append(_measured(group, best[method]))
        rows.append(cells)
    note = "Test accuracy in percent after the last update, the best of each column bold. "
    if theirs:
        note += (
            "Empty: no whole run here, or no such run in the paper; a dash in the paper's columns: "
            "it did not converge."
        )
    else:
        note += "Empty: no whole run here. The paper has no such table."
    return Table(rows, note)


def _paper_rows(
    dataset: str | None, same_time: bool
) -> Mapping[float, tuple[float | None, float | None, float | None]]:
    for table in paper.IMAGE_TABLES.values():
        if (table.dataset, table.same_time) == (dataset, same_time):
            return table.rows
    return {}


def _paper(
    rows: Mapping[float, tuple[float | None, float | None, float | None]], rate: float, index: int
) -> str:
    if rate not in rows:
        return ""
    value = rows[rate][index]
    if value is None:
        return "-"
    best = max(each for row in rows.values() if (each := row[index]) is not None)
    return f"**{value:.2f}**" if value == best else f"{value:.2f}"


def _percent(group: Group) -> list[float]:
    return [100 * run.run.final.accuracy for run in group.runs]


def _best(found: Mapping[str, Mapping[str, Group]], method: str) -> float:
    means = [
        sum(values) / len(values)
        for columns in found.values()
        if method in columns and (values := _percent(columns[method]))
    ]
    return max(means, default=0.0)


def _measured(group: Group | None, best: float) -> str:
    if group is None:
        return ""
    values = _percent(group)
    text = spread(values, ".2f")
    return f"**{text}**" if sum(values) / len(values) == best else text
