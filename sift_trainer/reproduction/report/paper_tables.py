"""Tables 1 and 6 of the paper with measured columns beside its own."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sift_trainer.reproduction import paper
from sift_trainer.reproduction.report.groups import Comparison, Group
from sift_trainer.reproduction.report.page import Table
from sift_trainer.reproduction.report.runs import LoggedRun
from sift_trainer.reproduction.report.statistics import NONE, accuracy_gain, against, ratio, spread

_NAMES = {"loss": "Loss-based", "entropy": "Entropy-based"}
TABLE_6_NOTE = (
    f"The paper has {paper.FORWARD_HOURS} h of forward and {paper.BACKWARD_HOURS} h of backward in "
    "all cases. Compare the shares, not the hours."
)


class Row(NamedTuple):
    """A row of the paper, a measured one, or one that is both.

    Attributes:
        criterion: None for the baseline.
        layer: the exit of the paper's row; None if the paper has no such row, and for the baseline.
        group: None if there is no such run.
    """

    criterion: str | None
    layer: int | None
    group: Group | None

    @property
    def runs(self) -> list[LoggedRun]:
        return [] if self.group is None else self.group.runs

    @property
    def is_baseline(self) -> bool:
        return self.criterion is None if self.group is None else self.group.is_baseline

    def papers(self, table: Mapping[str, Mapping[int, float]]) -> float | None:
        """The paper's value in a table by criterion and exit."""
        return table.get(self.criterion or "", {}).get(self.layer or 0)

    def start(self) -> dict[str, str]:
        """The first cells."""
        group, layer = self.group, str(self.layer or NONE)
        if self.is_baseline:
            return {"algorithm": "Baseline", "layer": "N/A"}
        if group is not None and group.exit_layer is not None:
            layer = f"{group.exit_layer} of {group.depth}" if group.depth else f"{group.exit_layer}"
        name = _NAMES.get(self.criterion or "", self.criterion or "not known")
        return {"algorithm": name, "layer": layer}

    def end(self) -> dict[str, str]:
        return {"run": NONE if self.group is None else self.group.label}


def rows_of_table_1(comparison: Comparison) -> Iterator[Row]:
    """The rows of the paper in its order with the measured runs, then the other runs.

    The last exit of a model of any depth belongs to the paper's last exit, the others to the exits
    of the same number.
    """
    left = list(comparison.groups)
    wanted: list[tuple[str | None, int | None]] = [(None, None)]
    wanted += [(name, layer) for name, row in paper.ACCURACY.items() for layer in row]
    for criterion, layer in wanted:
        found = [group for group in left if _is_row(group, criterion, layer)]
        yield from (Row(criterion, layer, group) for group in found or (None,))
        left = [group for group in left if group not in found]
    for group in left:
        yield Row(group.sift("criterion"), None, group)


def _is_row(group: Group, criterion: str | None, layer: int | None) -> bool:
    if group.is_baseline or criterion is None:
        return group.is_baseline and criterion is None
    own = paper.BERT_LAYERS if group.is_last_exit else group.exit_layer
    return group.is_the_papers and (group.sift("criterion"), own) == (criterion, layer)


def table_1(comparison: Comparison) -> Table:
    """Validation accuracy at the last step."""
    rows = []
    for row in rows_of_table_1(comparison):
        theirs = paper.BASELINE_ACCURACY if row.is_baseline else row.papers(paper.ACCURACY)
        gain = None if theirs is None or row.is_baseline else theirs - paper.BASELINE_ACCURACY
        rows.append(
            {
                **row.start(),
                "paper": spread([theirs], ".4f"),
                "measured": spread([run.final.accuracy for run in row.runs], ".4f"),
                "paper: to baseline": spread([gain], "+.4f"),
                "measured: to baseline": NONE
                if row.group is comparison.baseline
                else against(row.group, comparison.baseline, accuracy_gain, "+.4f"),
                "seeds": str(len(row.runs) or NONE),
                **row.end(),
            }
        )
    return rows


def table_1_note(comparison: Comparison) -> str:
    missing = [
        f"{row.criterion} {row.layer}" if row.criterion else "baseline"
        for row in rows_of_table_1(comparison)
        if row.group is None
    ]
    note = "The accuracies of several seeds are their mean, the lowest and the highest."
    return f"{note} No whole run here of: {', '.join(missing)}." if missing else note


def table_6(comparison: Comparison) -> Table:
    """Time of sampling, and its share of forward and backward."""
    unit = comparison.unit
    rows = []
    for row in rows_of_table_1(comparison):
        theirs = row.papers(paper.SAMPLING_HOURS)
        computed = paper.FORWARD_HOURS + paper.BACKWARD_HOURS
        times = {
            f"{phase} ({unit.name})": spread(
                [run.final.spent.seconds[phase] / unit.seconds for run in row.runs], unit.form
            )
            for phase in ("sampling", "forward", "backward")
        }
        shares = [_share(run.final.spent.seconds) for run in row.runs]
        while_sifting = [_share(run.while_sifting) for run in row.runs]
        rows.append(
            {
                **row.start(),
                "paper: of forward + backward": spread([ratio(theirs, computed)], ".1%"),
                "measured: of forward + backward": spread(shares, ".1%"),
                "the same, while sifting": spread(while_sifting, ".1%"),
                "paper: sampling (h)": spread([theirs], ".4f"),
                **times,
                **row.end(),
            }
        )
    return rows


def _share(seconds: Mapping[str, float]) -> float | None:
    """Sampling as a share of forward and backward; None without sampling."""
    return ratio(seconds["sampling"], seconds["forward"] + seconds["backward"]) or None
