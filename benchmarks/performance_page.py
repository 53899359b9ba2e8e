"""Makes the tables of docs/performance.md, and of the README, from docs/benchmarks/*.json.

    python benchmarks/performance_page.py            # writes them
    python benchmarks/performance_page.py --check    # exits with 1 if a page differs

A table stands between ``<!-- table: KIND FILE -->`` and ``<!-- end of table -->``. FILE is a result
in docs/benchmarks without its ending. If it does not exist, the page says "not measured yet".
"""

import argparse
import difflib
import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Result = Mapping[str, Any]
Results = Mapping[str, Result]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "benchmarks"
PAGES = (ROOT / "docs" / "performance.md", ROOT / "README.md")
TABLE = re.compile(r"(<!-- table: (\w+)(?: (\w+))? -->\n).*?(<!-- end of table -->)", re.DOTALL)


def load() -> dict[str, Result]:
    """File name without its ending -> its content."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}


def with_tables(text: str, results: Results) -> str:
    """The page with the tables that the results give."""

    def table(found: re.Match[str]) -> str:
        begin, kind, file, end = found.groups()
        if file is not None and file not in results:
            body = f"*Not measured yet: there is no `docs/benchmarks/{file}.json`.*\n"
        else:
            body = KINDS[kind](results, file)
        return f"{begin}\n{body}\n{end}"

    return TABLE.sub(table, text)


# ---- cells ----


def row_of(results: Results, file: str, name: str) -> Result | None:
    rows = results.get(file, {}).get("arms", [])
    return next((row for row in rows if row["name"] == name and "error" not in row), None)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def number(row: Result, name: str, form: str = ".3f", with_range: bool = True) -> str:
    """A number, with its range if it has one."""
    if row.get(name) is None:
        return ""
    text = format(row[name], form)
    if with_range and f"{name}_range" in row:
        low, high = (format(value, form) for value in row[f"{name}_range"])
        text += f" ({low} - {high})" if low != high else ""
    return text


def by_clock(row: Result) -> str:
    """Prefix of the ratio that counts: on a CPU by processor time, which is the program's own."""
    return "processor_" if "processor_ratio_to_stock" in row else ""


def caption(result: Result, rows: str) -> str:
    """Command, machine, versions, sizes."""
    machine, settings = result["machine"], result["settings"]
    threads = "one thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    versions = [
        f"{name} {machine['versions'][name]}" for name in ("torch", "transformers", "accelerate")
    ]
    taken = max((row["rounds"] for row in result[rows] if "rounds" in row), default=0)
    of_steps = f" of {settings['steps']} steps each" if settings["steps"] > 1 else ""
    told = [
        machine["accelerator"] or f"{machine['processor']}, {machine['cores']} cores, {threads}",
        f"Python {machine['python']}",
        ", ".join(versions),
        f"{settings['layers']} blocks of width {settings['hidden']}",
        "bf16" if settings["bf16"] else "fp32",
        f"{taken} rounds{of_steps}",
    ]
    return f"    {shlex.join(['python', *result['command']])}\n\n{'; '.join(told)}.\n\n"


def failed(row: Result, columns: int) -> list[str]:
    error = row["error"].splitlines()[0][:120].replace("|", "/")
    return [f"failed: {error}", *[""] * (columns - 1)]


# ---- kinds of tables ----


def steps(results: Results, file: str) -> str:
    """Step time by arm, and peak memory."""
    result = results[file]
    settings = result["settings"]
    kept = settings["batch_size"]
    head = ["arm", "seconds", "of a stock step", "by processor time", "of vanilla", "counted"]
    head += ["scoring / (forward + backward)", "counted", "peak MB"]
    rows = []
    for row in result["arms"]:
        cells = [
            number(row, "step_seconds", ".4g", with_range=False),
            number(row, "ratio_to_stock"),
            number(row, "processor_ratio_to_stock"),
            number(row, f"{by_clock(row)}ratio_to_vanilla", with_range=False),
            number(row, "counted_ratio_to_stock"),
            number(row, "overhead"),
            number(row, "counted_overhead"),
            number(row, "peak_mb", ".0f"),
        ]
        rows.append([row["name"], *(failed(row, 8) if "error" in row else cells)])
    sizes = f"Length {settings['length']}, {kept} rows kept of {2 * kept}."
    text = " ".join([sizes, *_compiled(result["arms"])])
    return caption(result, "arms") + text + "\n\n" + markdown(head, rows)


def _compiled(arms: Sequence[Result]) -> list[str]:
    rows = [row for row in arms if row.get("compiled") and "error" not in row]
    if not rows:
        return []
    slower = ", ".join(
        f"{row['name'].removesuffix(', compiled')} {row['ratio_to_uncompiled_stock']:.3f}"
        for row in rows
        if "ratio_to_uncompiled_stock" in row
    )
    late = sum(row["graphs_after_warmup"] for row in rows)
    return [
        "Compiled arms are compared with the compiled stock step. Their ratios to the uncompiled "
        f"one: {slower}. Graphs compiled after the warm-up: {late}."
    ]


def growth(results: Results, file: str) -> str:
    """One table per sweep."""
    result = results[file]
    tables = []
    for sweep in dict.fromkeys(row["sweep"] for row in result["points"]):
        head = [sweep.replace("_", " "), "arm", "kept of", "seconds", "of a stock step", "counted"]
        head += ["scoring / (forward + backward)", "counted"]
        rows = []
        for row in (row for row in result["points"] if row["sweep"] == sweep):
            begin = [f"{row['value']:g}", row["arm"], f"{row['kept']} of {row['candidates']}"]
            cells = [
                number(row, "step_seconds", ".4g", with_range=False),
                number(row, f"{by_clock(row)}ratio_to_stock"),
                number(row, "counted_ratio_to_stock"),
                number(row, "overhead"),
                number(row, "counted_overhead"),
            ]
            rows.append([*begin, *(failed(row, 5) if "error" in row else cells)])
        tables.append(markdown(head, rows))
    settings = result["settings"]
    sizes = (
        f"Where a column does not say otherwise: length {settings['length']}, "
        f"{settings['batch_size']} rows kept of {2 * settings['batch_size']}, "
        f"vocabulary {settings['vocabulary']}.\n\n"
    )
    return caption(result, "points") + sizes + "\n".join(tables)


# Name, rest of the arm's name, column, and the largest value that meets the target by device.
TARGETS: list[tuple[str, str, str, dict[str, float]]] = [
    (
        "scoring by {} at exit 1, of forward + backward",
        "",
        "overhead",
        {"cpu": 0.06, "gpu": 0.05},
    ),
    (
        "the same by {}, `sift_token_fraction=0.25`",
        ", a quarter of the labels",
        "overhead",
        {"cpu": 0.025, "gpu": 0.025},
    ),
    (
        "a step sifted by {} at exit 1, of a stock step",
        "",
        "ratio_to_stock",
        {"cpu": 0.75, "gpu": 0.75},
    ),
    ("its peak memory by {}, of a stock step's", "", "memory", {"cpu": 1.0, "gpu": 1.0}),
]


def targets(results: Results, file: str | None) -> str:
    """The targets, and whether they were met, by device."""
    rows = []
    for name, rest, column, limits in TARGETS:
        for by in ("loss", "entropy"):
            cells = [name.format(by)]
            for device, limit in limits.items():
                found = _measured(results, device, f"sifting by {by}, exit 1{rest}", column)
                cells += [format(limit, "g"), *_verdict(found, limit)]
            rows.append(cells)
    head = ["target", "at most: CPU", "CPU", "", "at most: GPU", "GPU", ""]
    return markdown(head, rows)


def _measured(results: Results, device: str, arm: str, column: str) -> tuple[Result, str] | None:
    """The row that has the number, and its name there."""
    row = row_of(results, f"step_time_{device}", arm)
    stock = row_of(results, f"step_time_{device}", "stock Trainer")
    if row is None or stock is None:
        return None
    if column == "memory":
        known = "peak_mb" in row and "peak_mb" in stock
        return ({column: row["peak_mb"] / stock["peak_mb"]}, column) if known else None
    return row, by_clock(row) + column if column == "ratio_to_stock" else column


def _verdict(found: tuple[Result, str] | None, limit: float) -> list[str]:
    if found is None:
        return ["not measured", ""]
    row, name = found
    return [number(row, name), "met" if round(row[name], 3) <= limit else "**missed**"]


README_ARMS = {
    "SiftTrainer, not sifting": "`SiftTrainer`, not sifting",
    "vanilla, labelled-only head": "not sifting, head and last block on labelled positions",
    "naive sifting by loss, exit 1": "naive sifting, exit 1 (head everywhere, nothing pruned)",
    "sifting by loss, exit 1": "**sifting by loss, exit 1**",
    "sifting by entropy, exit 1": "**sifting by entropy, exit 1**",
    "sifting by loss, exit 3": "sifting by loss, exit 3",
    "sifting by loss, exit 12": "sifting by loss, exit 12 (exact losses)",
}


def short(results: Results, file: str) -> str:
    """The README's table of step times."""
    rows = []
    for arm, name in README_ARMS.items():
        if row := row_of(results, file, arm):
            ratio = format(row[f"{by_clock(row)}ratio_to_stock"], ".2f")
            rows.append([name, ratio, number(row, "overhead", with_range=False)])
    return markdown(["", "of a stock `Trainer` step", "scoring / (forward + backward)"], rows)


KINDS: dict[str, Callable[[Results, Any], str]] = {
    "targets": targets,
    "steps": steps,
    "growth": growth,
    "short": short,
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page differs")
    options = parser.parse_args(argv)
    results, different = load(), False
    for page in PAGES:
        before = page.read_text()
        after = with_tables(before, results)
        different |= before != after
        lines = (text.splitlines(keepends=True) for text in (before, after))
        if options.check:
            sys.stdout.writelines(difflib.unified_diff(*lines, page.name, "from JSON"))
        else:
            page.write_text(after)
    return int(options.check and different)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
