"""Makes the tables of docs/performance.md, and of the README, from docs/benchmarks/*.json.

    python benchmarks/performance_page.py            # writes them
    python benchmarks/performance_page.py --check    # exits with 1 if a page differs

A table stands between ``<!-- table: KIND FILE -->`` and ``<!-- end of table -->``. FILE is a result
in docs/benchmarks without its ending. If it does not exist, the page says "not measured yet".
"""

import argparse
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
TABLE = re.compile(r"(<!-- table: (\w+) (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def load() -> dict[str, Result]:
    """File name without its ending -> its content."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}


def with_tables(text: str, results: Results) -> str:
    """The page with the tables that the results give."""

    def table(found: re.Match[str]) -> str:
        begin, kind, file, end = found.groups()
        if file not in results:
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


def caption(result: Result) -> str:
    """Command, machine, versions, sizes."""
    machine, settings = result["machine"], result["settings"]
    threads = "one thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    versions = [
        f"{name} {machine['versions'][name]}" for name in ("torch", "transformers", "accelerate")
    ]
    taken = max((row["rounds"] for row in result["arms"] if "rounds" in row), default=0)
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
        if "error" in row:
            error = row["error"].splitlines()[0][:120].replace("|", "/")
            cells[0] = f"failed: {error}"
        rows.append([row["name"], *cells])
    sizes = f"Length {settings['length']}, {kept} rows kept of {2 * kept}."
    text = " ".join([sizes, *_compiled(result["arms"])])
    return caption(result) + text + "\n\n" + markdown(head, rows)


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


KINDS: dict[str, Callable[[Results, str], str]] = {"steps": steps, "short": short}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page differs")
    options = parser.parse_args(argv)
    results, different = load(), False
    for page in PAGES:
        before = page.read_text()
        after = with_tables(before, results)
        different |= before != after
        if not options.check:
            page.write_text(after)
    return int(options.check and different)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
