"""Makes the tables and pictures of docs/results.md from the results of `run.py`."""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tasks.data import TUNING_SEED, Row, quality, read


def compared(lines: list[Row], equal: str) -> pd.DataFrame:
    """The runs by their latest settings and rate; ``gain`` is over stock with the same seed."""
    runs = [e for e in lines if e["kind"] == "run" and e["seed"] != TUNING_SEED]
    last = {(e["task"], e["rule"]): e["settings"] for e in runs}
    runs = [e for e in runs if e["settings"] == last[e["task"], e["rule"]] and e["equal"] == equal]
    rates = {e["task"]: e["learning_rate"] for e in runs if e["rule"] == "stock"}
    runs = [e for e in runs if e["learning_rate"] == rates[e["task"]]]
    names, values = ["task", "budget", "seed", "rule"], [quality(e) for e in runs]
    found = pd.DataFrame(runs)[names].assign(quality=values).drop_duplicates(names)
    stock = found[found.rule == "stock"].set_index(names[:3]).quality.rename("stock")
    return found.assign(gain=found.quality - found.join(stock, on=names[:3]).stock)


def saved(own: pd.Series, stock: pd.Series) -> str:
    """What less cost gives stock's last mean, by straight lines between at least three budgets."""
    reached = np.flatnonzero(own >= stock.iloc[-1])
    if len(own) < 3 or not len(reached):
        return "" if len(own) < 3 else "not reached"
    near = own.iloc[max(0, reached[0] - 1) : reached[0] + 1]
    share = 1 - np.interp(stock.iloc[-1], near, near.index) / stock.index[-1]
    return f"{'> ' if len(near) == 1 else ''}{share:.0%}"


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("runs/tasks/results.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--equal", choices=["cost", "updates"], default="cost")
    o = parser.parse_args(argv)
    lines, folder, page = read(o.results), o.page.parent, o.page.read_text(encoding="utf-8")
    found = compared(lines, o.equal)
    rules, tasks = found.rule.unique(), found[found.rule != "stock"].task.unique()
    whole = found[found.budget == found.groupby("task").budget.transform("max")]
    shown = whole.groupby(["task", "rule"])
    shown = shown.gain.agg(["mean", "sem", "count"]).join(shown.quality.mean())
    means = found.groupby(["task", "rule", "budget"]).quality.mean()
    forms = {True: "{mean:+.2f} ± {sem:.2f} ({count:.0f})", False: "{mean:+.2f} (1)"}
    gains = {k: forms[e["count"] > 1].format(**e) for k, e in shown.iterrows()}
    gains |= {k: f"{e.quality:.2f}" for k, e in shown.iterrows() if k[1] == "stock"}
    savings = {k: saved(means[k], means[k[0], "stock"]) for k in gains}
    figures = [Figure((4 * len(tasks), 5), layout="constrained") for _ in range(2)]
    for number, task in enumerate(tasks):
        bars, curves = (f.add_subplot(1, len(tasks), number + 1, title=task) for f in figures)
        own = shown.loc[task].reindex(rules[::-1])
        bars.errorbar(own["mean"], range(len(rules)), xerr=own["sem"], fmt="o", capsize=2)
        bars.set_yticks(range(len(rules)), own.index)  # the same rows in all
        bars.axvline(0, color="0.6", zorder=0)
        for rule in shown.loc[task].index:
            curves.plot(means[task, rule], marker=".", label=rule)
        curves.legend()
    for name, cells, figure in zip(("gains", "saved"), (gains, savings), figures, strict=True):
        if not any(cells.values()):
            continue
        figure.savefig(folder / f"results_{name}.png")
        rows = [["", *tasks], ["---"] * (len(tasks) + 1)]
        rows += [[rule, *(cells.get((task, rule), "") for task in tasks)] for rule in rules]
        text = "".join(f"| {' | '.join(row)} |\n" for row in rows)
        marks = rf"(<!-- made by page.py: {name} -->\n).*?(<!-- end -->)"
        text = f"\\1\n{text}\n![The same by task](results_{name}.png)\n\n\\2"
        page = re.sub(marks, text, page, flags=re.DOTALL)
    o.page.write_text(page, encoding="utf-8")
    raw = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / "benchmarks" / "tasks.jsonl").write_text(raw)


if __name__ == "__main__":
    main(sys.argv[1:])
