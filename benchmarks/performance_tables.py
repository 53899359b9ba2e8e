"""The tables of docs/performance.md: a function for each kind, from results to Markdown."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]
Results = Mapping[str, Result]


def row_of(results: Results, file: str, rows: str, name: str) -> Mapping[str, Any] | None:
    found = results.get(file, {}).get(rows, [])
    return next((row for row in found if row["name"] == name and "error" not in row), None)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def figure(row: Mapping[str, Any], name: str, form: str = ".3f") -> str:
    """A number, with its range where there is one."""
    if row.get(name) is None:
        return ""
    text = format(row[name], form)
    if f"{name}_range" in row:
        low, high = (format(value, form) for value in row[f"{name}_range"])
        text += f" ({low} - {high})" if low != high else ""
    return text


def caption(result: Result) -> str:
    """Command, machine, versions, sizes."""
    machine, settings = result["machine"], result["settings"]
    versions = ", ".join(
        f"{name} {machine['versions'][name]}"
        for name in ("torch", "transformers", "accelerate")
        if name in machine["versions"]
    )
    where = machine["accelerator"] or (
        f"{machine['processor']}, {machine['cores']} cores, {_threads(machine['threads'])}"
    )
    said = [where, f"Python {machine['python']}", versions]
    if "hidden" in settings:
        said += [
            f"{settings['layers']} blocks of width {settings['hidden']}",
            "bf16" if settings["bf16"] else "fp32",
        ]
    said.append(_rounds(result))
    command = shlex.join(["python", *result["command"]])
    return f"    {command}\n\n{'; '.join(said)}.\n\n"


def _rounds(result: Result) -> str:
    """As many as were taken: there was perhaps no time for all that were asked for."""
    lists = [value for value in result.values() if isinstance(value, list)]
    rows = [row for rows in lists for row in rows if isinstance(row, dict)]
    settings = result["settings"]
    taken = max((row["rounds"] for row in rows if "rounds" in row), default=settings["rounds"])
    steps = settings.get("steps", 1)
    return f"{taken} rounds" + (f" of {steps} steps each" if steps > 1 else "")


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"


def steps(results: Results, file: str) -> str:
    """Step time by arm, and peak memory."""
    result = results[file]
    settings = result["settings"]
    kept = settings["batch_size"]
    sizes = f"Length {settings['length']}, {kept} rows kept of {2 * kept}. "
    head = ["arm", "seconds", "of a stock step", "by processor time", "of vanilla", "counted"]
    head += ["scoring / (forward + backward)", "counted", "peak MB"]
    rows = []
    for row in result["arms"]:
        if "error" in row:
            rows.append([row["name"], f"failed: {_one_line(row['error'])}", *[""] * 7])
            continue
        rows.append(
            [
                row["name"],
                figure(row, "step_seconds", ".4g").partition(" ")[0],
                figure(row, "ratio_to_stock"),
                figure(row, "processor_ratio_to_stock"),
                figure(row, f"{fair(row)}ratio_to_vanilla").partition(" ")[0],
                figure(row, "counted_ratio_to_stock"),
                figure(row, "overhead"),
                figure(row, "counted_overhead"),
                figure(row, "peak_mb", ".0f"),
            ]
        )
    return caption(result) + (sizes + _compiled(result)).strip() + "\n\n" + markdown(head, rows)


def fair(row: Mapping[str, Any]) -> str:
    """What ratios of a step are told by: on a CPU by processor time, which is the program's own."""
    return "processor_" if "processor_ratio_to_stock" in row else ""


def _compiled(result: Result) -> str:
    rows = [row for row in result["arms"] if row.get("compiled") and "error" not in row]
    if not rows:
        return ""
    late = sum(row["graphs_after_warmup"] for row in rows)
    slower = ", ".join(
        f"{row['name'].removesuffix(', compiled')} {row['ratio_to_uncompiled_stock']:.3f}"
        for row in rows
        if "ratio_to_uncompiled_stock" in row
    )
    return (
        "Compiled arms are held to the compiled stock step; of the uncompiled one they take: "
        f"{slower}. Graphs compiled after the warm-up: {late}."
    )


def _one_line(error: str) -> str:
    return error.splitlines()[0][:120].replace("|", "/")


def scoring(results: Results, file: str) -> str:
    """The scoring pass alone."""
    result = results[file]
    head = ["scored by", "ms", "of forward + backward", "counted", "measured / counted"]
    head += ["entropy / loss"]
    rows = []
    for row in result["variants"]:
        if "error" in row:
            rows.append([row["name"], f"failed: {_one_line(row['error'])}", *[""] * 4])
            continue
        rows.append(
            [
                row["name"],
                _milliseconds(row["score_seconds"]),
                figure(row, "share"),
                figure(row, "counted_share"),
                figure(row, "share_over_counted", ".2f"),
                figure(row, "entropy_over_loss", ".2f"),
            ]
        )
    settings = result["settings"]
    sizes = f"Length {settings['length']}, {2 * settings['batch_size']} candidates.\n\n"
    return caption(result) + sizes + markdown(head, rows)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}" if seconds < 0.1 else f"{1000 * seconds:.0f}"


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
            if "error" in row:
                rows.append([*begin, f"failed: {_one_line(row['error'])}", *[""] * 4])
                continue
            rows.append(
                [
                    *begin,
                    format(row["step_seconds"], ".4g"),
                    figure(row, f"{fair(row)}ratio_to_stock"),
                    figure(row, "counted_ratio_to_stock"),
                    figure(row, "overhead"),
                    figure(row, "counted_overhead"),
                ]
            )
        tables.append(markdown(head, rows))
    settings = result["settings"]
    sizes = (
        f"Where a column does not say otherwise: length {settings['length']}, "
        f"{settings['batch_size']} rows kept of {2 * settings['batch_size']}, "
        f"vocabulary {settings['vocabulary']}.\n\n"
    )
    return caption(result) + sizes + "\n".join(tables)


def pipeline(results: Results, file: str) -> str:
    """Sequences per second of the loader, of what a step consumes."""
    result = results[file]
    consumed = result["consumed"]
    said = ""
    if consumed:
        said = (
            f"{consumed['arm']} in `{consumed['step_time']}` consumes "
            f"{consumed['candidates_per_second']:.4g} candidates a second, the stock step "
            f"{consumed['stock_rows_per_second']:.4g} rows.\n\n"
        )
    head = ["workers", "sequences per second", "of what sifting consumes", "of what stock consumes"]
    rows = [
        [
            str(row["workers"]),
            figure(row, "sequences_per_second", ".0f"),
            _times(row, "of_consumed"),
            _times(row, "of_consumed_by_stock"),
        ]
        for row in result["pipelines"]
        if "error" not in row
    ]
    return caption(result) + said + markdown(head, rows)


def _times(row: Mapping[str, Any], name: str) -> str:
    return f"{row[name]:.1f}x" if name in row else ""


def short(results: Results, file: str) -> str:
    """What the README has of the steps."""
    wanted = {
        "SiftTrainer, not sifting": "`SiftTrainer`, not sifting",
        "vanilla, labelled-only head": "not sifting, head and last block on labelled positions",
        "naive sifting by loss, exit 1": "naive sifting, exit 1 (head everywhere, nothing pruned)",
        "sifting by loss, exit 1": "**sifting by loss, exit 1**",
        "sifting by entropy, exit 1": "**sifting by entropy, exit 1**",
        "sifting by loss, exit 3": "sifting by loss, exit 3",
        "sifting by loss, exit 12": "sifting by loss, exit 12 (exact losses)",
    }
    rows = []
    for arm, name in wanted.items():
        row = row_of(results, file, "arms", arm)
        if row is not None:
            ratio = format(row[f"{fair(row)}ratio_to_stock"], ".2f")
            rows.append([name, ratio, figure(row, "overhead").partition(" ")[0]])
    return markdown(["", "of a stock `Trainer` step", "scoring / (forward + backward)"], rows)
