"""Makes the tables and pictures of docs/results.md from the results of `run.py`."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tasks import TUNING_SEED, Line, best_rate, quality, read

NAMES = ["task", "budget", "seed", "rule"]


def compared(lines: list[Line], equal: str) -> pd.DataFrame:
    """The runs by their latest settings and learning rate, and the ``gain`` of each over the stock
    run of its task, budget and seed. Shares are in percent."""
    runs = [e for e in lines if e["kind"] == "run" and e["seed"] != TUNING_SEED]
    last = {(e["task"], e["rule"]): e["settings"] for e in runs}
    runs = [e for e in runs if e["settings"] == last[e["task"], e["rule"]] and e["equal"] == equal]
    runs = [e for e in runs if e["learning_rate"] == best_rate(lines, e["settings"]["task"])]
    found = pd.DataFrame(
        [{**{name: e[name] for name in NAMES}, "quality": quality(e)} for e in runs]
    )
    found = found.drop_duplicates(NAMES)
    stock = found[found.rule == "stock"].set_index(NAMES[:3]).quality.rename("stock")
    found = found.join(stock, on=NAMES[:3])
    return found.assign(gain=found.quality - found.stock)


def saved(own: pd.Series, stock: pd.Series) -> str:
    """How much less than the largest budget reaches stock's quality there, by straight lines
    between the mean qualities by budget; nothing for fewer than three budgets."""
    reached = np.flatnonzero(own >= stock.iloc[-1])
    if len(own) < 3 or not len(reached):
        return "" if len(own) < 3 else "not reached"
    near = own.iloc[max(0, reached[0] - 1) : reached[0] + 1]
    share = 1 - np.interp(stock.iloc[-1], near, near.index) / stock.index[-1]
    return f"{'> ' if len(near) == 1 else ''}{share:.0%}"


def table(cells: dict[tuple[str, str], str], rules: list[str]) -> str:
    """Rules in the rows, tasks in the columns."""
    tasks = list(dict.fromkeys(task for task, _ in cells))
    rows = [["", *tasks], ["---"] * (1 + len(tasks))]
    rows += [[rule, *(cells.get((task, rule), "") for task in tasks)] for rule in rules]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("runs/tasks/results.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--equal", choices=["cost", "updates"], default="cost")
    o = parser.parse_args(argv)
    lines, folder = read(o.results), o.page.parent
    found = compared(lines, o.equal)
    rules, tasks = list(found.rule.unique()), list(found.task.unique())
    whole = found[found.budget == found.groupby("task").budget.transform("max")]
    shown = whole.groupby(["task", "rule"], sort=False)
    shown = shown.gain.agg(["mean", "sem", "count"]).join(shown.quality.mean())
    means = found.groupby(["task", "rule", "budget"]).quality.mean()
    gains = {
        k: f"{m:+.2f} ± {s:.2f} ({n:.0f})" for k, (m, s, n, _) in zip(shown.index, shown.values)
    }
    gains |= {k: f"{q:.2f}" for k, q in shown.quality.items() if k[1] == "stock"}
    savings = {k: saved(means[k], means[k[0], "stock"]) for k in shown.index}
    page = o.page.read_text(encoding="utf-8")
    for name, cells in {"gains": gains, "saved": savings}.items():
        marks = rf"(<!-- made by page.py: {name} -->\n).*?(<!-- end -->)"
        page = re.sub(marks, rf"\1\n{table(cells, rules)}\n\2", page, flags=re.DOTALL)
    o.page.write_text(page, encoding="utf-8")
    size = {"figsize": (4 * len(tasks), 3 + 0.2 * len(rules)), "layout": "constrained"}
    figures = [Figure(**size), Figure(**size)]
    for number, task in enumerate(tasks):
        upper, lower = (f.add_subplot(1, len(tasks), number + 1, title=task) for f in figures)
        own = shown.loc[task].reindex(rules[::-1])
        upper.errorbar(own["mean"], own.index, xerr=own["sem"], fmt="o", capsize=2)
        upper.axvline(0, color="0.6", zorder=0)
        for rule in shown.loc[task].index:
            lower.plot(means[task, rule], marker=".", label=rule)
        lower.legend()
    figures[0].savefig(folder / "results.png")
    figures[1].savefig(folder / "results_by_budget.png")
    (folder / "benchmarks").mkdir(exist_ok=True)
    raw = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / "benchmarks" / "tasks.jsonl").write_text(raw, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
