"""Tables and figures of `time_to_accuracy.py`, from the lines of its results."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from study_charge import Frontier, Ratio
from study_grids import TUNING_SEED, rate_of
from study_methods import METHODS
from study_regimes import REGIMES
from study_results import runs_of

from sift_trainer.plots import COLOURS, MARKERS, require_matplotlib
from sift_trainer.tables import markdown

Line = Mapping[str, Any]


def write_page(lines: Sequence[Line], folder: Path) -> str:
    """All tables as Markdown, and a figure for each regime in ``folder``."""
    parts = []
    for name, regime in REGIMES.items():
        runs = runs_of(lines, name)
        if not runs:
            continue
        parts.append(f"### {name}: {regime.title}\n\n{comparison(runs, regime.steps)}")
        picture = plot(name, runs, regime.steps, folder)
        if picture is not None:
            parts.append(f"![{regime.title}: accuracy over cost]({picture.name})")
    parts.append(f"### Learning rates\n\n{rates(lines)}")
    parts.append(f"### What scoring takes\n\n{costs(lines)}")
    parts.append(f"### What the probe said\n\n{probed(lines)}")
    return "\n\n".join(parts) + "\n"


def compared_runs(runs: Iterable[Line]) -> dict[str, dict[float, list[Line]]]:
    """Method -> budget -> runs of the compared seeds, at the regime's own learning rate."""
    found: dict[str, dict[float, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for line in runs:
        if line["seed"] != TUNING_SEED and line["rate"] == rate_of(line["regime"], line["method"]):
            found[line["method"]][line["budget"]].append(line)
    return found


def frontier_of(runs: Iterable[Line], steps: int) -> Frontier | None:
    """What vanilla reaches at what cost, None before it was trained at two budgets."""
    budgets = compared_runs(runs).get("vanilla", {})
    if len(budgets) < 2:
        return None
    return Frontier({b * steps: [line["accuracy"] for line in own] for b, own in budgets.items()})


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
            same = None if frontier is None else frontier.accuracy_at(budget * steps)
            against = "-" if same is None else f"{mean(accuracies) - same:+.4f}"
            rows.append(
                [
                    *(method, f"{budget:g}", str(len(own)), str(own[0]["settings"]["steps"])),
                    *(_spread(accuracies, 4), against),
                    "-" if frontier is None else ratio_cell(frontier, budget * steps, accuracies),
                    _spread([line["trained_loss"] for line in own], 2),
                ]
            )
    return markdown(rows)


def ratio_cell(frontier: Frontier, cost: float, accuracies: Sequence[float]) -> str:
    """Cost over vanilla's at the same accuracy: of the mean, then of the best and worst seed."""
    of_mean = frontier.ratio(cost, mean(accuracies))
    if len(accuracies) == 1:
        return str(of_mean)
    best, worst = (frontier.ratio(cost, pick(accuracies)) for pick in (max, min))
    return f"{of_mean} ({best} to {worst})"


def pays(frontier: Frontier, cost: float, accuracies: Sequence[float], most: float) -> bool:
    """Whether every seed needs at most ``most`` of vanilla's cost."""
    ratios: list[Ratio] = [frontier.ratio(cost, each) for each in accuracies]
    return all(each.bound != ">" and each.value <= most for each in ratios)


def rates(lines: Iterable[Line]) -> str:
    """Accuracy by learning rate, of the seed that tuned it."""
    cells: dict[tuple[str, str], dict[float, float]] = defaultdict(dict)
    for line in lines:
        if line["kind"] == "run" and line["seed"] == TUNING_SEED:
            cells[line["regime"], line["method"]][line["rate"]] = line["accuracy"]
    factors = sorted({factor for own in cells.values() for factor in own})
    rows = [["regime", "method", "learning rate", *(f"x {factor:g}" for factor in factors)]]
    for (regime, method), own in sorted(cells.items()):
        known = [f"{own[factor]:.4f}" if factor in own else "-" for factor in factors]
        rows.append([regime, method, f"{REGIMES[regime].learning_rate:g}", *known])
    return markdown(rows)


def costs(lines: Iterable[Line]) -> str:
    """Scoring over forward and backward."""
    rows = [["regime", "criterion", "exit", "kept", "s", "rounds"]]
    for line in lines:
        if line["kind"] == "cost":
            low, high = line["share_range"]
            share = f"{line['share']:.3f} ({low:.3f} to {high:.3f})"
            exit_layer = "last" if line["exit_layer"] == -1 else str(line["exit_layer"])
            kept = f"{line['keep_ratio']:g}"
            rows.append(
                [line["regime"], line["criterion"], exit_layer, kept, share, str(line["rounds"])]
            )
    return markdown(rows)


def probed(lines: Sequence[Line]) -> str:
    """The probe's figures beside what the runs of the same criterion and exit did."""
    rows = [
        [
            *("regime", "criterion", "exit", "overlap", "ratio", "at equal length"),
            *("dropped rows'", "cost to equal accuracy", "sign right"),
        ]
    ]
    for line in lines:
        if line["kind"] != "probe":
            continue
        happened = _happened(lines, line["regime"])
        depth = max((f["exit_layer"] or 0 for f in line["figures"]), default=0)
        for each in line["figures"]:
            last = each["exit_layer"] == depth
            ratio = happened.get((each["criterion"], -1 if last else each["exit_layer"]))
            if ratio is None:
                continue
            overlap = "-" if each["overlap"] is None else f"{each['overlap']:.2f}"
            rows.append(
                [
                    *(line["regime"], each["criterion"], str(each["exit_layer"]), overlap),
                    *(
                        _interval(each[name])
                        for name in ("ratio", "ratio_at_equal_length", "dropped_ratio")
                    ),
                    *(str(ratio), _sign(each["ratio_at_equal_length"], ratio)),
                ]
            )
    return markdown(rows)


def _happened(lines: Sequence[Line], regime: str) -> dict[tuple[str, int], Ratio]:
    """Criterion and exit -> the ratio that the method of the usual schedule came to."""
    runs, steps = runs_of(lines, regime), REGIMES[regime].steps
    frontier = frontier_of(runs, steps)
    found = {}
    if frontier is None:
        return {}
    for method, budgets in compared_runs(runs).items():
        if method in ("loss", "entropy", "loss_exit_2", "exact") and 1.0 in budgets:
            sift = METHODS[method].sift
            asked = sift.get("sift_criterion", "loss"), sift.get("sift_exit_layer", 1)
            accuracy = mean(line["accuracy"] for line in budgets[1.0])
            found[asked] = frontier.ratio(steps, accuracy)
    return found


def _sign(predicted: Sequence[float] | None, ratio: Ratio) -> str:
    """Whether a descent of more than 1 per second went with a cost of less than 1."""
    if predicted is None:
        return "-"
    _, low, high = predicted
    if low <= 1 <= high:
        return "open"
    return "yes" if (low > 1) == (ratio.value < 1) else "no"


def plot(name: str, runs: Sequence[Line], steps: int, folder: Path) -> Path | None:
    """Accuracy over cost, a point for every run's end; vanilla's means are joined."""
    frontier = frontier_of(runs, steps)
    if frontier is None:
        return None
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(
        [cost / steps for cost in frontier.costs],
        [100 * value for value in frontier.means],
        color=COLOURS[0],
        linewidth=1.6,
    )
    for index, (method, budgets) in enumerate(sorted(compared_runs(runs).items(), key=_first)):
        points = [
            (line["cost"] / steps, 100 * line["accuracy"])
            for own in budgets.values()
            for line in own
        ]
        axes.plot(
            [cost for cost, _ in points],
            [accuracy for _, accuracy in points],
            linestyle="",
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index // len(COLOURS) % len(MARKERS)],
            markersize=5,
            alpha=0.8,
            label=method,
        )
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("cost, scoring included (1: the budget in steps without sifting)")
    axes.set_ylabel("validation accuracy at the end (%)")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    path = folder / f"time_to_accuracy_{name}.png"
    figure.savefig(path, dpi=120)
    return path


def _first(item: tuple[str, Any]) -> tuple[bool, int]:
    return item[0] != "vanilla", list(METHODS).index(item[0])


def _spread(values: Sequence[float], digits: int) -> str:
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    low, high = min(values), max(values)
    return f"{mean(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _interval(found: Sequence[float] | None) -> str:
    return "-" if found is None else f"{found[0]:.2f} ({found[1]:.2f} - {found[2]:.2f})"
