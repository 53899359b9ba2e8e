"""From run folders to the files of a report, and to the closing tables of a training."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sift_trainer.checkpoints.whole_files import write_json, write_text
from sift_trainer.measuring.machine import machine
from sift_trainer.reproduction import paper
from sift_trainer.reproduction.report import run_tables
from sift_trainer.reproduction.report.caveats import caveats, machines, shared_caveats
from sift_trainer.reproduction.report.figures import pictures, write_png
from sift_trainer.reproduction.report.groups import (
    MASKED_LM,
    Comparison,
    Group,
    cell_of,
    compare,
    short_name,
)
from sift_trainer.reproduction.report.history import Run
from sift_trainer.reproduction.report.image_tables import image_tables
from sift_trainer.reproduction.report.page import (
    Picture,
    heading,
    items,
    picture,
    plain,
    table,
    to_html,
)
from sift_trainer.reproduction.report.paper_tables import (
    TABLE_6_NOTE,
    table_1,
    table_1_note,
    table_6,
)
from sift_trainer.reproduction.report.runs import RESULTS, LeftOut, LoggedRun, find_runs
from sift_trainer.reproduction.report.setting import setting_table
from sift_trainer.reproduction.report.targets import (
    Target,
    choose_target,
    target_note,
    target_table,
)

_TITLE = "Runs beside the paper"


@dataclass(frozen=True)
class Report:
    """A report that is not written yet.

    Attributes:
        text: the page as Markdown.
        summary: lines about what was found.
    """

    text: str
    pictures: list[Picture]
    summary: list[str]
    runs: list[LoggedRun]

    def write(self, folder: Path) -> None:
        """Write ``report.md``, ``report.html`` and the pictures, each of them whole or not at all.

        Raises:
            OSError: the folder cannot be written.
        """
        page = to_html(self.text, _TITLE, self.pictures)
        for each in self.pictures:
            write_text(folder / each.name, each.svg)
        write_text(folder / "report.md", self.text)
        write_text(folder / "report.html", page)

    def write_summary(self, path: Path) -> None:
        """Write all evaluations of all runs (.json), and a picture of the first comparison (.png).

        Args:
            path: of both files, without suffix.
        """
        write_json(Path(f"{path}.json"), _as_data(self.runs))
        for comparison in compare(self.runs)[:1]:
            write_png(comparison.groups, Path(f"{path}.png"))


def build_report(folders: Sequence[Path], target_accuracy: float | None = None) -> Report:
    """The report over the runs in the folders; writes nothing.

    Args:
        target_accuracy: in (0, 1]; see `choose_target` for the default.

    Raises:
        ValueError: a folder cannot be read, see `find_runs`.
        ImportError: matplotlib is missing.
    """
    runs, left_out = find_runs(folders)
    comparisons = compare(runs)
    count = (
        f"{len(runs)} whole run{'' if len(runs) == 1 else 's'}, {len(left_out)} not in the tables"
    )
    summary = [count, *(f"not in the tables: {each.name}: {each.reason}" for each in left_out)]
    parts = [
        heading(1, _TITLE),
        f"{count}. The paper is {paper.NAME}, <{paper.LINK}>. Paper columns are its numbers, all "
        "others were measured here.\n",
        *_left_out(left_out),
    ]
    for dataset in dict.fromkeys(each.dataset for each in comparisons if each.dataset):
        same = [each for each in comparisons if each.dataset == dataset]
        tables = image_tables(same)
        if tables:
            parts += [heading(2, f"Test accuracy on {dataset}"), _warnings(shared_caveats(same))]
        for title, rows, note in tables:
            parts += [heading(3, title), f"{table(rows)}\n{note}\n"]
    drawn: list[Picture] = []
    for index, each in enumerate(comparisons, start=1):
        target = choose_target(each, target_accuracy)
        summary.append(f"{each.name}: target accuracy {target.accuracy:.4f} ({target.why})")
        own = pictures(each.groups, f"_{index}" if len(comparisons) > 1 else "")
        drawn += own
        parts += _sections(each, target, own)
    return Report("\n".join(parts), drawn, summary, runs)


def write_closing_tables(folder: Path, names: Sequence[str], settings: Mapping[str, Any]) -> str:
    """Write ``table.md``, ``results.json`` and a picture over the runs of a configuration.

    With a grid there is a picture in the folder of each cell. Runs of earlier trainings in the
    folder are included.

    Args:
        folder: the `output_dir` of the runs.
        names: of the runs, in the order of the tables.
        settings: what describes the configuration, as plain data.

    Returns:
        The tables.
    """
    runs, left_out = find_runs([folder])
    order = {name: index for index, name in enumerate(names)}
    runs.sort(key=lambda run: order.get(run.name, len(order)))
    comparisons = compare(runs)
    cells = dict.fromkeys(cell_of(run.name) for run in runs)
    parts = [table(run_tables.grid_table(runs))] if any(cells) else []
    for each in comparisons:
        parts += [heading(2, each.name)] if len(comparisons) > 1 else []
        parts.append(_tables_at_the_end(each))
    text = "\n".join([*parts, *_left_out(left_out)])
    write_text(folder / "table.md", text)
    write_json(folder / RESULTS, _as_data(runs, settings))
    for cell in cells:
        within = [Group(short_name(run.name), [run]) for run in runs if cell_of(run.name) == cell]
        place = folder / cell
        write_png(within, place / f"{place.resolve().name}.png")
    return text


def _as_data(
    runs: Sequence[LoggedRun], settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    plain_runs = [Run(run.name, run.points, run.sifted, run.measure) for run in runs]
    return {"machine": machine(), **(settings or {}), "runs": list(map(asdict, plain_runs))}


def _left_out(left_out: Sequence[LeftOut]) -> list[str]:
    listed = items([f"{each.name}: {each.reason}" for each in left_out])
    return [heading(2, "Not in the tables"), listed] if left_out else []


def _warnings(texts: Sequence[str]) -> str:
    """A list in a quotation, which the HTML makes stand out."""
    return "".join(f"> {line}\n" for line in items(texts).splitlines())


def _tables_at_the_end(comparison: Comparison) -> str:
    results, spending = run_tables.results_table(comparison), run_tables.spending_table(comparison)
    return f"{table(results)}\n{table(spending)}"


def _sections(comparison: Comparison, target: Target, drawn: Sequence[Picture]) -> list[str]:
    parts = [heading(2, comparison.name)]
    measured_on = "; ".join(machines(comparison))
    parts += [f"Measured on {plain(measured_on)}.\n"] if measured_on else []
    parts.append(_warnings(caveats(comparison, target)))
    sections = {}
    setting = setting_table(comparison)
    if setting:
        sections["The setting"] = table(setting)
    if comparison.measure == MASKED_LM:
        accuracies, times = table(table_1(comparison)), table(table_6(comparison))
        note = table_1_note(comparison)
        sections["Table 1: validation accuracy at the last step"] = f"{accuracies}\n{note}\n"
        sections["Table 6: sampling time"] = f"{times}\n{TABLE_6_NOTE}\n"
    reached = table(target_table(comparison, target))
    sections["Time and samples to a target accuracy"] = f"{reached}\n{target_note(target)}\n"
    sections["Figures 1 and 2"] = "\n".join(map(picture, drawn))
    sections["All runs at their end"] = _tables_at_the_end(comparison)
    sections["Accuracy at each evaluation"] = table(run_tables.evaluations_table(comparison))
    return [*parts, *(f"{heading(3, title)}\n{text}" for title, text in sections.items())]
