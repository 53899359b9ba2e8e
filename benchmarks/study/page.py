"""Tables and figures of `time_to_accuracy.py`, from the lines of its results."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean

from sift_trainer.probe.markdown import markdown
from study.axes import changed
from study.capacity import capacity
from study.cells import pays, ratio_cell, spread
from study.compared import Line, compared_runs, frontier_of
from study.figure import picture_of, plot
from study.gated import gated
from study.grids import TUNING_SEED, changed_methods
from study.methods import METHODS
from study.overview import PICTURE, plot_overview
from study.probed import probed, signs
from study.regimes import REGIMES
from study.results import runs_of

BEGIN, END = "<!-- made by time_to_accuracy.py: {} -->", "<!-- end -->"


def write_page(lines: Sequence[Line], page: Path) -> str:
    """Put tables in their places in a page, and the figures that it shows beside it; returns the
    page.

    Raises:
        ValueError: the page lacks the place of a table.
    """
    text = page.read_text(encoding="utf-8")
    for name, table in tables(lines).items():
        text = in_place(text, name, table)
    for name, regime in REGIMES.items():
        if f"({picture_of(name)})" in text:
            plot(name, runs_of(lines, name), regime.steps, page.parent)
    if f"({PICTURE})" in text:
        plot_overview(lines, page.parent)
    page.write_text(text, encoding="utf-8")
    return text


def in_place(text: str, name: str, table: str) -> str:
    """The page with a table between its marks."""
    begin = BEGIN.format(name)
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"the page has no place for the table {name!r}; add {begin} and {END}")
    return f"{before}{begin}\n\n{table.strip()}\n\n{END}{after}"


def tables(lines: Sequence[Line]) -> dict[str, str]:
    """Name -> table."""
    made = {"summary": summary(lines)}
    parts = []
    for name, regime in REGIMES.items():
        if runs := compared_runs(runs_of(lines, name)):
            count = sum(len(own) for budgets in runs.values() for own in budgets.values())
            told = f"**{name}**: {regime.title} ({count} runs)"
            parts.append(f"{told}\n\n{comparison(runs_of(lines, name), regime.steps)}")
    made["regimes"] = "\n".join(parts)
    made |= {"rates": rates(lines), "costs": costs(lines)}
    made |= {"axes": changed(lines), "probe": probed(lines), "signs": signs(lines)}
    return {**made, "gate": gated(lines), "capacity": capacity(lines)}


TARGET = 0.8


def summary(lines: Sequence[Line]) -> str:
    """What each method came to at the whole budget, beside vanilla; without the axes' changes, and
    without gates, whose cost is not known before."""
    rows = [
        [
            *("regime", "method", "seeds", "vanilla's accuracy", "accuracy at equal cost"),
            *("difference", "cost to equal accuracy", f"at most {TARGET:g} with every seed"),
        ]
    ]
    order = {name: number for number, name in enumerate(METHODS)}
    for name, regime in REGIMES.items():
        runs = runs_of(lines, name)
        frontier, found = frontier_of(runs, regime.steps), compared_runs(runs)
        if frontier is None:
            continue
        vanilla = [line["accuracy"] for line in found["vanilla"].get(1.0, [])]
        for method in sorted(found, key=lambda name: order[name]):
            accuracies = [line["accuracy"] for line in found[method].get(1.0, [])]
            if method == "vanilla" or not accuracies or not vanilla:
                continue
            if method in changed_methods(name) or "sift_gate" in METHODS[method].sift:
                continue  # in tables of their own
            rows.append(
                [
                    *(name, method, str(len(accuracies)), spread(vanilla, 4)),
                    *(spread(accuracies, 4), f"{mean(accuracies) - mean(vanilla):+.4f}"),
                    ratio_cell(frontier, regime.steps, accuracies),
                    _verdict(pays(frontier, regime.steps, accuracies, TARGET), len(accuracies)),
                ]
            )
    return markdown(rows)


def comparison(runs: Sequence[Line], steps: int) -> str:
    """A row for each method and budget: accuracy, and its cost over vanilla's for the same."""
    found = compared_runs(runs)
    frontier = frontier_of(runs, steps)
    rows = [
        [
            *("method", "budget", "seeds", "steps", "accuracy", "against vanilla"),
            *("cost to equal accuracy", "loss on training rows"),
        ]
    ]
    order = {name: number for number, name in enumerate(METHODS)}
    for method in sorted(found, key=lambda name: order[name]):
        for budget in sorted(found[method]):
            own = found[method][budget]
            accuracies = [line["accuracy"] for line in own]
            cost = budget * steps
            if "sift_gate" in METHODS[method].sift:  # what it came to, which is not planned for
                cost = mean(line["cost"] for line in own)
            same = None if frontier is None else frontier.accuracy_at(cost)
            against = "-" if same is None else f"{mean(accuracies) - same:+.4f}"
            rows.append(
                [
                    *(method, f"{budget:g}", str(len(own)), str(own[0]["settings"]["steps"])),
                    *(spread(accuracies, 4), against),
                    "-" if frontier is None else ratio_cell(frontier, cost, accuracies),
                    spread([line["trained_loss"] for line in own], 2),
                ]
            )
    return markdown(rows)


def rates(lines: Iterable[Line]) -> str:
    """Accuracy by learning rate, of the seed that tuned it and of others with several."""
    found: dict[tuple[str, str, int], dict[float, float]] = defaultdict(dict)
    for line in lines:
        if line["kind"] == "run" and line["budget"] == 1:
            place = line["regime"], line["method"], line["seed"]
            found[place][line["rate"]] = line["accuracy"]
    cells = {place: own for place, own in found.items() if place[2] == TUNING_SEED or len(own) > 1}
    factors = sorted({factor for own in cells.values() for factor in own})
    rows = [["regime", "method", "seed", "learning rate", *(f"x {factor:g}" for factor in factors)]]
    for (regime, method, seed), own in sorted(cells.items()):
        known = [f"{own[factor]:.4f}" if factor in own else "-" for factor in factors]
        rows.append([regime, method, str(seed), f"{REGIMES[regime].learning_rate:g}", *known])
    return markdown(rows)


def costs(lines: Iterable[Line]) -> str:
    """Scoring over forward and backward."""
    rows = [["regime", "criterion", "exit", "kept", "of the labels", "s", "rounds"]]
    for line in lines:
        if line["kind"] == "cost":
            low, high = line["share_range"]
            share = f"{line['share']:.3f} ({low:.3f} to {high:.3f})"
            exit_layer = "last" if line["exit_layer"] == -1 else str(line["exit_layer"])
            shares = [f"{line[name]:g}" for name in ("keep_ratio", "token_fraction")]
            rows.append(
                [
                    *(line["regime"], line["criterion"], exit_layer, *shares),
                    *(share, str(line["rounds"])),
                ]
            )
    return markdown(rows)


def _verdict(paid: bool, seeds: int) -> str:
    if not paid:
        return "no"
    return "yes" if seeds > 1 else "with the only one"
