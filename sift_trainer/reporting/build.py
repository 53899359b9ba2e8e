"""From run folders to the files of a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sift_trainer import paper
from sift_trainer.checkpoints.whole_files import write_text
from sift_trainer.plots import require_matplotlib
from sift_trainer.reporting.caveats import caveats, shared_caveats
from sift_trainer.reporting.figures import figures
from sift_trainer.reporting.finding import find_runs
from sift_trainer.reporting.groups import MASKED_LM, Comparison, compare
from sift_trainer.reporting.image_tables import image_tables
from sift_trainer.reporting.machines import distinct
from sift_trainer.reporting.page import (
    Block,
    Figure,
    Heading,
    Items,
    Text,
    to_html,
    to_markdown,
)
from sift_trainer.reporting.paper_tables import table_1, table_6
from sift_trainer.reporting.reading import LeftOut
from sift_trainer.reporting.setting import setting_table
from sift_trainer.reporting.targets import Target, choose_target, target_table
from sift_trainer.reporting.totals import evaluations_table, totals_table

_TITLE = "Runs beside the paper"


@dataclass(frozen=True)
class Report:
    """A page, its figures, and in a few lines what was found and taken."""

    blocks: list[Block]
    summary: list[str]

    def write(self, folder: Path) -> None:
        """Write ``report.md``, ``report.html`` and the figures, each of them whole or not at all.

        Raises:
            OSError: the folder cannot be written.
        """
        markdown, page = to_markdown(self.blocks), to_html(self.blocks, _TITLE)
        for block in self.blocks:
            if isinstance(block, Figure):
                write_text(folder / block.name, block.svg)
        write_text(folder / "report.md", markdown)
        write_text(folder / "report.html", page)


def build_report(folders: Sequence[Path], target_accuracy: float | None = None) -> Report:
    """The report over the runs in the folders; writes nothing.

    Args:
        target_accuracy: in (0, 1]; by default see `choose_target`.

    Raises:
        ValueError: for folders or logs that cannot be read, see `find_runs`.
        ImportError: for a missing extra.
    """
    require_matplotlib()
    runs, left_out = find_runs(folders)
    comparisons = compare(runs)
    targets = [choose_target(each, target_accuracy) for each in comparisons]
    count = "1 whole run" if len(runs) == 1 else f"{len(runs)} whole runs"
    blocks: list[Block] = [
        Heading(1, _TITLE),
        Text(
            f"{count}, {len(left_out)} not in the tables. The paper is {paper.NAME}, {paper.LINK}. "
            "Paper columns are its numbers, all others were measured here."
        ),
    ]
    if left_out:
        blocks += _not_in_the_tables(left_out)
    datasets = list(dict.fromkeys(each.dataset for each in comparisons if each.dataset))
    for dataset in datasets:
        same = [each for each in comparisons if each.dataset == dataset]
        found = image_tables(same)
        if found:
            blocks += [
                Heading(2, f"Test accuracy on {dataset}"),
                *_warnings(shared_caveats(same)),
                *found,
            ]
    for index, (each, target) in enumerate(zip(comparisons, targets, strict=True), start=1):
        blocks += _comparison(each, target, f"_{index}" if len(comparisons) > 1 else "")
    summary = [f"{count}, {len(left_out)} not in the tables"]
    summary += [f"not in the tables: {each.name}: {each.reason}" for each in left_out]
    summary += [
        f"{each.name}: target accuracy {target.accuracy:.4f} ({target.why})"
        for each, target in zip(comparisons, targets, strict=True)
    ]
    return Report(blocks, summary)


def _not_in_the_tables(left_out: Sequence[LeftOut]) -> list[Block]:
    items = [f"{each.name}: {each.reason}" for each in left_out]
    return [Heading(2, "Not in the tables"), Items(items)]


def _warnings(texts: Sequence[str]) -> list[Block]:
    return [Items(texts, warning=True)] if texts else []


def _comparison(comparison: Comparison, target: Target, suffix: str) -> list[Block]:
    blocks: list[Block] = [Heading(2, comparison.name)]
    machines = list(distinct(comparison))
    if machines:
        blocks.append(Text(f"Measured on {'; '.join(machines)}."))
    blocks += _warnings(caveats(comparison, target))
    setting = setting_table(comparison)
    if setting is not None:
        blocks += [Heading(3, "The setting"), setting]
    if comparison.measure == MASKED_LM:
        blocks += [
            Heading(3, "Table 1: validation accuracy at the last step"),
            table_1(comparison),
            Heading(3, "Table 6: sampling time"),
            table_6(comparison),
        ]
    return [
        *blocks,
        Heading(3, "Time and samples to a target accuracy"),
        target_table(comparison, target),
        Heading(3, "Figures 1 and 2"),
        *figures(comparison, suffix),
        Heading(3, "All runs at their end"),
        totals_table(comparison),
        Heading(3, "Accuracy at each evaluation"),
        evaluations_table(comparison),
    ]
