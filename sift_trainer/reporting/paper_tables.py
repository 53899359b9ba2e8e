"""Tables 1 and 6 of the paper with measured columns beside its own."""

from collections.abc import Iterator
from typing import NamedTuple

from sift_trainer import paper
from sift_trainer.reporting.groups import Comparison, Group
from sift_trainer.reporting.page import Table
from sift_trainer.reporting.statistics import NONE, against, difference, spread, unit_of

_NAMES = {"loss": "Loss-based", "entropy": "Entropy-based"}


class Row(NamedTuple):
    """One of the paper's, a measured one, or one that both have.

    Attributes:
        criterion: ``loss`` or ``entropy``; None for the baseline.
        layer: of the paper's exits; None where it has no such run.
    """

    criterion: str | None
    layer: int | None
    group: Group | None


def rows_of_table_1(comparison: Comparison) -> Iterator[Row]:
    """The paper's rows in its order, with the measured runs beside them, and then the others.

    The last exit of a model of any depth is beside the paper's last, its others beside those of the
    same number.
    """
    left = dict(enumerate(comparison.groups))
    wanted: list[tuple[str | None, int | None]] = [(None, None)]
    wanted += [(name, layer) for name, row in paper.ACCURACY.items() for layer in row]
    for criterion, layer in wanted:
        found = [
            index for index, group in left.items() if _place(group) == (True, criterion, layer)
        ]
        if not found:
            yield Row(criterion, layer, None)
        for index in found:
            yield Row(criterion, layer, left.pop(index))
    for group in left.values():
        yield Row(group.sift("criterion"), None, group)


def _place(group: Group) -> tuple[bool, str | None, int | None]:
    """Whether the paper could have it, its criterion and exit layer."""
    if group.is_baseline:
        return True, None, None
    layer = paper.BERT_LAYERS if group.is_last_exit else group.exit_layer
    return group.is_the_papers, group.sift("criterion"), layer


def table_1(comparison: Comparison) -> Table:
    """Validation accuracy at the last step."""
    rows = [
        [
            *("algorithm", "SIFT layer", "paper", "paper: to baseline", "run", "measured"),
            *("measured: to baseline", "seeds"),
        ]
    ]
    for row in rows_of_table_1(comparison):
        theirs = _accuracy(row)
        base = paper.BASELINE_ACCURACY
        own = [NONE] * 4
        if row.group is not None:
            accuracies = [run.run.final.accuracy for run in row.group.runs]
            gains = against(
                row.group, comparison.baseline, lambda run: run.run.final.accuracy, difference
            )
            own = [row.group.label, spread(accuracies, ".4f"), spread(gains, "+.4f")]
            own.append(str(len(accuracies)))
        rows.append(
            [
                *(_algorithm(row), _layer(row)),
                *([NONE, NONE] if theirs is None else [f"{theirs:.4f}", f"{theirs - base:+.4f}"]),
                *own,
            ]
        )
    return Table(rows, _note(comparison))


def table_6(comparison: Comparison) -> Table:
    """Time of sampling, with its share of forward and backward."""
    runs = [run.run for run in comparison.runs]
    unit, size = unit_of([run.final.spent.total_seconds for run in runs])
    phases = ("sampling", "forward", "backward")
    rows = [
        [
            *("algorithm", "SIFT layer", "paper: sampling (h)", "paper: of forward + backward"),
            *("run", *(f"{phase} ({unit})" for phase in phases), "of forward + backward"),
            "the same, while sifting",
        ]
    ]
    computed = paper.FORWARD_HOURS + paper.BACKWARD_HOURS
    for row in rows_of_table_1(comparison):
        theirs = paper.SAMPLING_HOURS.get(row.criterion or "", {}).get(row.layer or 0)
        own = [NONE] * 6
        if row.group is not None:
            each = [run.run for run in row.group.runs]
            seconds = [
                spread([run.final.spent.seconds[phase] / size for run in each], ".2f")
                for phase in phases
            ]
            whole = [share for run in each if (share := _share(run.final.spent.seconds))]
            sifting = [share for run in each if (share := _share(run.while_sifting))]
            own = [row.group.label, *seconds, spread(whole, ".1%"), spread(sifting, ".1%")]
        paper_cells = (
            [NONE, NONE] if theirs is None else [f"{theirs:.4f}", f"{theirs / computed:.1%}"]
        )
        rows.append([_algorithm(row), _layer(row), *paper_cells, *own])
    return Table(
        rows,
        f"The paper has {paper.FORWARD_HOURS} h of forward and {paper.BACKWARD_HOURS} h of "
        "backward in all cases. Compare the shares, not the hours.",
    )


def _share(seconds: dict[str, float]) -> float | None:
    """Sampling of forward + backward; None where there was none of either."""
    computed = seconds["forward"] + seconds["backward"]
    return seconds["sampling"] / computed if computed and seconds["sampling"] else None


def _accuracy(row: Row) -> float | None:
    if row.criterion is None and (row.group is None or row.group.is_baseline):
        return paper.BASELINE_ACCURACY
    return paper.ACCURACY.get(row.criterion or "", {}).get(row.layer or 0)


def _algorithm(row: Row) -> str:
    if row.group is not None and row.group.is_baseline:
        return "Baseline"
    if row.criterion is None:
        return "Baseline" if row.group is None else "not known"
    return _NAMES.get(row.criterion, str(row.criterion)) + " SIFT"


def _layer(row: Row) -> str:
    group = row.group
    if group is None or group.is_baseline:
        return "N/A" if row.layer is None else str(row.layer)
    layer = group.exit_layer
    if layer is None:
        return NONE
    return f"{layer} of {group.depth}" if group.depth else str(layer)


def _note(comparison: Comparison) -> str:
    missing = [
        f"{row.criterion or 'baseline'}{f' {row.layer}' if row.layer else ''}"
        for row in rows_of_table_1(comparison)
        if row.group is None
    ]
    notes = ["The accuracies of several seeds are their mean, the lowest and the highest."]
    if missing:
        notes.append(f"No whole run here of: {', '.join(missing)}.")
    return " ".join(notes)
