"""Makes the tables of docs/performance.md, and of the README, from docs/benchmarks/*.json.

    python benchmarks/performance_page.py            # writes them
    python benchmarks/performance_page.py --check    # says whether they are what the JSON gives

A table stands between ``<!-- table: KIND FILE -->`` and ``<!-- end of table -->``; all else is
written by hand. FILE is a result in docs/benchmarks without its ending; of one that is not there
yet the page says so.
"""

import argparse
import difflib
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from performance_tables import (
    Result,
    Results,
    fair,
    figure,
    growth,
    markdown,
    pipeline,
    row_of,
    scoring,
    short,
    steps,
)

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "benchmarks"
PAGES = (ROOT / "docs" / "performance.md", ROOT / "README.md")
BETWEEN = re.compile(r"(<!-- table: (\w+)(?: (\w+))? -->\n).*?(<!-- end of table -->)", re.DOTALL)


def load(folder: Path = RESULTS) -> dict[str, Result]:
    """File's name without its ending -> its content."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


def made(text: str, results: Results) -> str:
    """The page with the tables that the results give.

    Raises:
        ValueError: a table is of a kind that there is not.
    """

    def table(found: re.Match[str]) -> str:
        begin, kind, file, end = found.groups()
        if kind not in KINDS:
            raise ValueError(f"<!-- table: {kind} -->: there is no such; use one of {list(KINDS)}")
        if file is not None and file not in results:
            body = f"*Not measured yet: there is no `docs/benchmarks/{file}.json`.*\n"
        else:
            body = KINDS[kind](results, file or "")
        return f"{begin}\n{body}\n{end}"

    return BETWEEN.sub(table, text)


# ---- targets ----


class Target(NamedTuple):
    """What was aimed for.

    Attributes:
        limits: the most that it may be, by device.
        found: results, device -> the row and the name of its figure; None if it is not there.
    """

    name: str
    limits: dict[str, float]
    found: Callable[[Results, str], tuple[Mapping[str, Any], str] | None]


def _of(file: str, rows: str, name: str, column: str):
    def found(results: Results, device: str) -> tuple[Mapping[str, Any], str] | None:
        row = row_of(results, f"{file}_{device}", rows, name)
        return None if row is None or column not in row else (row, column)

    return found


def _step(name: str):
    def found(results: Results, device: str) -> tuple[Mapping[str, Any], str] | None:
        row = row_of(results, f"step_time_{device}", "arms", name)
        column = f"{fair(row)}ratio_to_stock" if row else ""
        return None if row is None or column not in row else (row, column)

    return found


def _memory(name: str):
    def found(results: Results, device: str) -> tuple[Mapping[str, Any], str] | None:
        file = f"step_time_{device}"
        row, stock = (row_of(results, file, "arms", arm) for arm in (name, "stock Trainer"))
        if not row or not stock or "peak_mb" not in row or "peak_mb" not in stock:
            return None
        return {"memory": row["peak_mb"] / stock["peak_mb"]}, "memory"

    return found


def _targets() -> list[Target]:
    chosen = []
    both = ("loss", "entropy")
    for by in both:
        limits = {"cpu": 0.06, "gpu": 0.05}
        arm = f"sifting by {by}, exit 1"
        name = f"scoring by {by} at exit 1, of forward + backward"
        chosen.append(Target(name, limits, _of("step_time", "arms", arm, "overhead")))
    for by in both:
        limits = {"cpu": 0.025, "gpu": 0.025}
        arm = f"sifting by {by}, exit 1, a quarter of the labels"
        name = f"the same by {by}, `sift_token_fraction=0.25`"
        chosen.append(Target(name, limits, _of("step_time", "arms", arm, "overhead")))
    name, column = "scoring by entropy at exit 1, of that by loss", "entropy_over_loss"
    found = _of("scoring_pass", "variants", "entropy, exit 1", column)
    chosen.append(Target(name, {"cpu": 1.1, "gpu": 1.1}, found))
    for by in both:
        arm, name = f"sifting by {by}, exit 1", f"a step sifted by {by} at exit 1, of a stock step"
        chosen.append(Target(name, {"cpu": 0.75, "gpu": 0.75}, _step(arm)))
    for by in both:
        name = f"its peak memory by {by}, of a stock step's"
        found = _memory(f"sifting by {by}, exit 1")
        chosen.append(Target(name, {"cpu": 1.0, "gpu": 1.0}, found))
    return chosen


def targets(results: Results, file: str) -> str:
    """What was aimed for, and whether it was met, by device."""
    head = ["target", "at most: CPU", "CPU", "", "at most: GPU", "GPU", ""]
    rows = []
    for target in _targets():
        cells = [target.name]
        for device, limit in target.limits.items():
            found = target.found(results, device)
            cells.append(format(limit, "g"))
            if found is None:
                cells += ["not measured", ""]
                continue
            row, name = found
            met = round(row[name], 3) <= limit
            cells += [figure(row, name), "met" if met else "**missed**"]
        rows.append(cells)
    return markdown(head, rows)


KINDS: dict[str, Callable[[Results, str], str]] = {
    "targets": targets,
    "steps": steps,
    "scoring": scoring,
    "growth": growth,
    "pipeline": pipeline,
    "short": short,
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page is old")
    options = parser.parse_args(argv)
    results, old = load(), False
    for page in PAGES:
        before = page.read_text()
        after = made(before, results)
        if options.check and before != after:
            old = True
            lines = (text.splitlines(keepends=True) for text in (before, after))
            sys.stdout.writelines(difflib.unified_diff(*lines, page.name, "from JSON"))
        elif not options.check:
            page.write_text(after)
    return int(old)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
