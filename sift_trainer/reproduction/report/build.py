"""From run folders to the files of a report, and to the closing tables of a training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sift_trainer.checkpoints.whole_files import write_json, write_text
from sift_trainer.measuring.machine import machine
from sift_trainer.reproduction import paper
from sift_trainer.reproduction.report import paper_tables, tables
from sift_trainer.reproduction.report.caveats import caveats, machines_of
from sift_trainer.reproduction.report.figures import draw
from sift_trainer.reproduction.report.groups import MASKED_LM, Comparison, compare
from sift_trainer.reproduction.report.history import RESULTS, Run, find_runs
from sift_trainer.reproduction.report.page import heading, items, plain, table, to_html

_TITLE = "Runs beside the paper"


@dataclass(frozen=True)
class Report:
    """A report that is not written yet.

    Attributes:
        text: the page as Markdown.
        pictures: SVG by the name of its file.
        summary: lines about what was found.
    """

    text: str
    pictures: dict[str, str]
    summary: list[str]
    runs: list[Run]

    def write(self, folder: Path) -> None:
        """Write ``report.md``, ``report.html`` and the pictures."""
        for name, svg in self.pictures.items():
            write_text(folder / name, svg)
        write_text(folder / "report.md", self.text)
        write_text(folder / "report.html", to_html(self.text, _TITLE, self.pictures))

    def write_summary(self, path: Path) -> None:
        """Write ``PATH.json``, all evaluations of all runs, and ``PATH.png``, the first picture."""
        write_json(Path(f"{path}.json"), _as_data(self.runs, {}))
        for comparison in compare(self.runs)[:1]:
            Path(f"{path}.png").write_bytes(draw(comparison.groups, "png"))


def build_report(folders: Sequence[Path], target_accuracy: float | None = None) -> Report:
    """The report over the runs in the folders; writes nothing.

    Args:
        target_accuracy: in (0, 1]; see `choose_target` for the default.

    Raises:
        ValueError: a folder has no run, or the target is not an accuracy.
        ImportError: matplotlib is missing.
    """
    if target_accuracy is not None and not 0 < target_accuracy <= 1:
        raise ValueError(f"target_accuracy={target_accuracy} is not in (0, 1]; set it to 0.64")
    runs, left_out = find_runs(folders)
    comparisons = compare(runs)
    count = f"whole runs: {len(runs)}, not in the tables: {len(left_out)}"
    summary = [count, *(f"not in the tables: {name}: {why}" for name, why in left_out.items())]
    parts = [
        heading(1, _TITLE),
        f"{count}. The paper is {paper.NAME}, <{paper.LINK}>. Paper columns are its numbers, all "
        "others were measured here.\n",
        *_left_out(left_out),
        *_image_tables(comparisons),
    ]
    pictures = {}
    for index, each in enumerate(comparisons, start=1):
        target = tables.choose_target(each, target_accuracy)
        summary.append(f"{each.name}: target accuracy {target.accuracy:.4f} ({target.why})")
        pictures[f"figure_{index}.svg"] = draw(each.groups, "svg").decode()
        parts += _sections(each, target, f"figure_{index}.svg")
    return Report("\n".join(parts), pictures, summary, runs)


def write_closing_tables(folder: Path, settings: Mapping[str, Any]) -> str:
    """Write ``table.md``, ``results.json`` and a picture of each comparison; returns the tables.

    Args:
        folder: the `output_dir` of the runs; those of earlier trainings are included.
        settings: what describes the configuration, as plain data.
    """
    runs, left_out = find_runs([folder])
    parts = []
    comparisons = compare(runs)
    for index, each in enumerate(comparisons, start=1):
        one_of_several = len(comparisons) > 1
        parts += [heading(2, each.name)] if one_of_several else []
        parts.append(_tables_at_the_end(each))
        picture = f"{folder.resolve().name}{f'_{index}' if one_of_several else ''}.png"
        (folder / picture).write_bytes(draw(each.groups, "png"))
    text = "\n".join([*parts, *_left_out(left_out)])
    write_text(folder / "table.md", text)
    in_order = [run for each in comparisons for run in each.runs]
    write_json(folder / RESULTS, _as_data(in_order, settings))
    return text


def _as_data(runs: Sequence[Run], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"machine": machine(), **settings, "runs": [run.results() for run in runs]}


def _left_out(left_out: Mapping[str, str]) -> list[str]:
    listed = items([f"{name}: {why}" for name, why in left_out.items()])
    return [heading(2, "Not in the tables"), listed] if left_out else []


def _tables_at_the_end(comparison: Comparison) -> str:
    results, spending = tables.results_table(comparison), tables.spending_table(comparison)
    return f"{table(results)}\n{table(spending)}"


def _image_tables(comparisons: Sequence[Comparison]) -> list[str]:
    parts = []
    for number, (dataset, same_time) in enumerate(paper.IMAGE_TABLES, start=2):
        same = [each for each in comparisons if each.dataset == dataset]
        kind = "training time" if same_time else "number of updates"
        if same:
            rows = table(paper_tables.image_table(same, same_time))
            note = "Percent after the last update; a dash: no such run, or it did not converge."
            parts += [heading(2, f"Table {number}: test accuracy on {dataset}, same {kind}")]
            parts += [f"{rows}\n{note} What the numbers do not show is said below.\n"]
    return parts


def _sections(comparison: Comparison, target: tables.Target, picture: str) -> list[str]:
    parts = [heading(2, comparison.name)]
    parts.append(f"Measured on {plain('; '.join(machines_of(comparison.runs)))}.\n")
    # A quotation, which the HTML makes stand out.
    parts.append("".join(f"> {line}\n" for line in items(caveats(comparison)).splitlines()))
    sections = {}
    if comparison.measure == MASKED_LM:
        rows = table(paper_tables.table_1_and_6(comparison))
        sections["Tables 1 and 6: accuracy and sampling"] = f"{rows}\n{paper_tables.NOTE}\n"
    reached = table(tables.target_table(comparison, target))
    note = tables.target_note(target)
    sections["Time and samples to a target accuracy"] = f"{reached}\n{note}\n"
    caption = f"Validation {comparison.measure} over backpropagated samples and over training time"
    sections["Figures 1 and 2"] = f"![{caption}]({picture})\n\n{caption}.\n"
    sections["All runs at their end"] = _tables_at_the_end(comparison)
    return [*parts, *(f"{heading(3, title)}\n{text}" for title, text in sections.items())]
