"""Tables 1 and 6 of the paper with measured columns beside its own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sift_trainer import paper
from sift_trainer.reporting.groups import Comparison, Group
from sift_trainer.reporting.page import Table
from sift_trainer.reporting.reading import LoggedRun
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
            *("algorithm", "layer", "paper", "measured", "paper: to baseline"),
            *("measured: to baseline", "seeds", "run"),
        ]
    ]
    base = paper.BASELINE_ACCURACY
    for row in rows_of_table_1(comparison):
        theirs = _accuracy(row)
        gain = "-" if theirs is None or row.layer is None else f"{theirs - base:+.4f}"
        measured = gains = seeds = run = NONE
        if row.group is not None:
            each = [_final_accuracy(run) for run in row.group.runs]
            measured, seeds, run = spread(each, ".4f"), str(len(each)), row.group.label
            if row.group is not comparison.baseline:
                differences = against(row.group, comparison.baseline, _final_accuracy, difference)
                gains = spread(differences, "+.4f")
        rows.append(
            [
                *(_algorithm(row), _layer(row), NONE if theirs is None else f"{theirs:.4f}"),
                *(measured, gain, gains, seeds, run),
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
            *("algorithm", "layer", "paper: of forward + backward"),
            *("measured: of forward + backward", "the same, while sifting"),
            *("paper: sampling (h)", *(f"{phase} ({unit})" for phase in phases), "run"),
        ]
    ]
    computed = paper.FORWARD_HOURS + paper.BACKWARD_HOURS
    for row in rows_of_table_1(comparison):
        theirs = paper.SAMPLING_HOURS.get(row.criterion or "", {}).get(row.layer or 0)
        of_whole = of_sifted = run = NONE
        seconds = [NONE] * len(phases)
        if row.group is not None:
            each, run = [run.run for run in row.group.runs], row.group.label
            of_whole = spread(_shares([run.final.spent.seconds for run in each]), ".1%")
            of_sifted = spread(_shares([run.while_sifting for run in each]), ".1%")
            seconds = [
                spread([run.final.spent.seconds[phase] / size for run in each], ".2f")
                for phase in phases
            ]
        rows.append(
            [
                *(_algorithm(row), _layer(row)),
                NONE if theirs is None else f"{theirs / computed:.1%}",
                *(of_whole, of_sifted, NONE if theirs is None else f"{theirs:.4f}"),
                *(*seconds, run),
            ]
        )
    return Table(
        rows,
        f"The paper has {paper.FORWARD_HOURS} h of forward and {paper.BACKWARD_HOURS} h of "
        "backward in all cases. Compare the shares, not the hours.",
    )


def _shares(each: Sequence[Mapping[str, float]]) -> list[float]:
    """Sampling of forward + backward, of those that have any of it."""
    return [
        seconds["sampling"] / (seconds["forward"] + seconds["backward"])
        for seconds in each
        if seconds["sampling"] and seconds["forward"] + seconds["backward"]
    ]


def _final_accuracy(run: LoggedRun) -> float:
    return run.run.final.accuracy


def _accuracy(row: Row) -> float | None:
    if row.criterion is None and (row.group is None or row.group.is_baseline):
        return paper.BASELINE_ACCURACY
    return paper.ACCURACY.get(row.criterion or "", {}).get(row.layer or 0)


def _algorithm(row: Row) -> str:
    if row.group is not None and row.group.is_baseline:
        return "Baseline"
    if row.criterion is None:
        return "Baseline" if row.group is None else "not known"
    return _NAMES.get(row.criterion, row.criterion)


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
