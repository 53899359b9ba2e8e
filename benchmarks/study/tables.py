"""The tables of `time_to_accuracy.py`, from the lines of its results."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import mean

from performance_page import markdown

from study.charge import Frontier, audited, sifted_steps
from study.grids import AXES, TUNING_SEED, rate_of
from study.methods import GATE_FIELDS, METHODS, NOT_BUILT
from study.regimes import REGIMES
from study.results import Line

BEGIN, END = "<!-- made by time_to_accuracy.py: {} -->", "<!-- end -->"
Compared = dict[str, dict[float, list[Line]]]


def tables(lines: Sequence[Line]) -> dict[str, str]:
    """Name -> table."""
    return {"regimes": regimes(lines), "methods": methods(lines), "gate": gated(lines)}


def with_table(page: str, name: str, table: str) -> str:
    """The page with a table between its marks."""
    before, begin, rest = page.partition(BEGIN.format(name))
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no place for {name!r}; add {BEGIN.format(name)} and {END}")
    return f"{before}{begin}\n\n{table}\n{end}{after}"


# ---- which runs are compared ----


def compared_runs(lines: Iterable[Line], regime: str) -> Compared:
    """Method -> budget -> runs of the compared seeds, at the regime's own learning rate."""
    found: Compared = defaultdict(lambda: defaultdict(list))
    for line in lines:
        if line["kind"] != "run" or line["regime"] != regime or line["seed"] == TUNING_SEED:
            continue
        if line["rate"] == rate_of(regime, line["method"]):
            found[line["method"]][line["budget"]].append(line)
    return found


def frontier_of(runs: Compared, steps: int) -> Frontier | None:
    """What vanilla reaches at what cost; None if it was not trained at two budgets."""
    budgets = runs.get("vanilla", {})
    if len(budgets) < 2:
        return None
    return Frontier({b * steps: accuracies(own) for b, own in budgets.items()})


def accuracies(runs: Iterable[Line]) -> list[float]:
    return [line["accuracy"] for line in runs]


def difference(own: Sequence[Line], other: Sequence[Line]) -> str:
    """Mean difference in accuracy to runs with the same seeds."""
    known = {line["seed"]: line["accuracy"] for line in other}
    found = [line["accuracy"] - known[line["seed"]] for line in own if line["seed"] in known]
    return f"{mean(found):+.4f}" if found else ""


def spread(values: Sequence[float], digits: int) -> str:
    """The mean, then the lowest and the highest."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    low, high = min(values), max(values)
    return f"{mean(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


# ---- tables ----


def regimes(lines: Sequence[Line]) -> str:
    """What each regime is, what vanilla reaches, and how far it fits its rows."""
    head = ["regime", "what", "steps", "passes", "parameters", "loss on training rows"]
    rows = []
    for name, regime in REGIMES.items():
        budgets = compared_runs(lines, name)["vanilla"]
        if own := budgets.get(1.0):
            settings = own[0]["settings"]
            passes = regime.steps * regime.batch_size / settings["rows"]
            others = (
                f"{budget:g}: {mean(accuracies(budgets[budget])):.4f}"
                for budget in sorted(budgets)
                if budget != 1
            )
            rows.append(
                [
                    *(name, regime.title, str(regime.steps), f"{passes:.1f}"),
                    f"{settings['parameters'] / 1e6:.2f}M",
                    spread([line["trained_loss"] for line in own], 3),
                    spread(accuracies(own), 4),
                    "; ".join(others),
                ]
            )
    return markdown([*head, "vanilla's accuracy", "at other costs"], rows)


def methods(lines: Sequence[Line]) -> str:
    """What each method reaches at vanilla's cost. Gates have a table of their own."""
    head = ["regime", "method", "seeds", "s", "accuracy", "to vanilla", "to the usual way"]
    rows = []
    for name, regime in REGIMES.items():
        runs = compared_runs(lines, name)
        frontier = frontier_of(runs, regime.steps)
        usual = AXES.get(name, ("loss", ()))[0]
        shown = name
        for method in (*METHODS, *NOT_BUILT):
            own = runs[method].get(1.0, [])
            if not own or method == "vanilla" or "sift_gate" in METHODS.get(method, {}):
                continue
            known = runs[usual][1.0] if method.startswith(f"{usual}_") else []
            rows.append(
                [
                    *(shown, method, str(len(own))),
                    f"{own[0]['share']:.3f}" if own[0]["share"] else "",
                    spread(accuracies(own), 4),
                    difference(own, runs["vanilla"][1.0]),
                    difference(own, known),
                    frontier.ratios(regime.steps, accuracies(own)) if frontier else "",
                ]
            )
            shown = ""
    return markdown([*head, "cost to equal accuracy"], rows)


def gated(lines: Sequence[Line]) -> str:
    """How many of the scheduled steps each gated method sifted, and what it reached at its cost."""
    head = ["regime", "gate towards", "seeds", "steps sifted", "audits' share", "vanilla"]
    head += ["sifted by the schedule", "gated", "at a cost of", "cost to equal accuracy"]
    rows = []
    for name, regime in REGIMES.items():
        runs = compared_runs(lines, name)
        frontier = frontier_of(runs, regime.steps)
        for method, sift in METHODS.items():
            own = runs.get(method, {}).get(1.0, [])
            if not own or "sift_gate" not in sift or frontier is None:
                continue
            free = {field: value for field, value in sift.items() if field not in GATE_FIELDS}
            ungated = next(each for each in METHODS if METHODS[each] == free)
            steps = own[0]["settings"]["steps"]
            cost = mean(line["cost"] for line in own)
            sifted = mean(line["sifted_steps"] for line in own) / sifted_steps(steps, sift)
            audits = mean(audited(steps, sift) / line["cost"] for line in own)
            rows.append(
                [
                    *(name, sift["sift_held_out"], str(len(own)), f"{sifted:.0%}", f"{audits:.1%}"),
                    *(f"{mean(accuracies(runs[m][1.0])):.4f}" for m in ("vanilla", ungated)),
                    spread(accuracies(own), 4),
                    f"{cost / regime.steps:.3f}",
                    frontier.ratios(cost, accuracies(own)),
                ]
            )
    return markdown(head, rows)
