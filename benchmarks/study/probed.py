"""What the probe said of the regimes of `time_to_accuracy.py`, beside what happened."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import mean

from sift_trainer.probe.markdown import markdown
from study.charge import Ratio
from study.compared import Line, compared_runs, frontier_of
from study.methods import LATE, METHODS, scored_by
from study.regimes import REGIMES
from study.results import runs_of

_ROWS = {"candidates": "other candidates", "evaluation": "evaluation rows"}
_PREDICTS = {"ratio": "descent per second", "ratio_at_equal_length": "at equal length"}
_ASKED = {"sift_criterion", "sift_exit_layer", "sift_token_fraction"}
"""Fields that the probe was asked about; a run that changes others beside `LATE` is none of it."""


def probed(lines: Sequence[Line]) -> str:
    """The probe's figures beside what the runs of the same criterion and exit did."""
    rows = [
        [
            *("regime", "towards", "criterion", "exit", "overlap", "ratio", "at equal length"),
            *("dropped rows'", "cost to equal accuracy", "sign right"),
        ]
    ]
    for line, each, ratio in _predictions(lines):
        overlap = "-" if each["overlap"] is None else f"{each['overlap']:.2f}"
        rows.append(
            [
                *(line["regime"], line["held_out"], each["criterion"]),
                *(str(each["exit_layer"]), overlap),
                *(_interval(each[name]) for name in (*_PREDICTS, "dropped_ratio")),
                *(str(ratio), _sign(each["ratio_at_equal_length"], ratio)),
            ]
        )
    said = [
        f"- **{line['regime']}**, towards {_ROWS[line['held_out']]}: {line['recommendation']}"
        for line in lines
        if line["kind"] == "probe"
    ]
    return "\n".join(
        [markdown(rows), "What it recommended, at a quarter of vanilla's run:", "", *said]
    )


def signs(lines: Sequence[Line]) -> str:
    """How often the sign of a prediction was right, where its interval decides and by its value
    alone."""
    found: dict[tuple[str, str], list[tuple[str, bool]]] = defaultdict(list)
    for line, each, ratio in _predictions(lines):
        for name in _PREDICTS:
            if each[name] is not None:
                by_value = (each[name][0] > 1) == ratio.saves
                found[line["held_out"], name].append((_sign(each[name], ratio), by_value))
    rows = [["towards", "by", "right", "wrong", "open", "right by the value alone"]]
    for (towards, name), own in found.items():
        told = [sign for sign, _ in own]
        counts = [str(told.count(sign)) for sign in ("yes", "no", "open")]
        values = f"{sum(right for _, right in own)} of {len(own)}"
        rows.append([_ROWS[towards], _PREDICTS[name], *counts, values])
    return markdown(rows)


def _predictions(lines: Sequence[Line]) -> Iterator[tuple[Line, Line, Ratio]]:
    """Probes with the figures of what was also trained by, and the ratio that this came to."""
    for line in lines:
        if line["kind"] != "probe":
            continue
        happened = _happened(lines, line["regime"])
        depth = max((f["exit_layer"] or 0 for f in line["figures"]), default=0)
        for each in line["figures"]:
            exit_layer = -1 if each["exit_layer"] == depth else each["exit_layer"]
            ratio = happened.get((each["criterion"], exit_layer, each["token_fraction"]))
            if ratio is not None:
                yield line, each, ratio


def _happened(lines: Sequence[Line], regime: str) -> dict[tuple[str, int, float], Ratio]:
    """Criterion, exit and token fraction -> the ratio that the usual schedule came to."""
    runs, steps = runs_of(lines, regime), REGIMES[regime].steps
    frontier = frontier_of(runs, steps)
    found = {}
    if frontier is None:
        return {}
    for method, budgets in compared_runs(runs).items():
        sift = METHODS[method].sift
        asked = scored_by(sift)
        others = {name: value for name, value in sift.items() if name not in _ASKED}
        usual = others == LATE and METHODS[method].mixin is None
        if asked is not None and usual and 1.0 in budgets:
            accuracy = mean(line["accuracy"] for line in budgets[1.0])
            key = asked["criterion"], asked["exit_layer"], asked["token_fraction"]
            found[key] = frontier.ratio(steps, accuracy)
    return found


def _sign(predicted: Sequence[float] | None, ratio: Ratio) -> str:
    """Whether a descent of more than 1 per second went with a cost of less than 1."""
    if predicted is None:
        return "-"
    _, low, high = predicted
    if low <= 1 <= high:
        return "open"
    return "yes" if (low > 1) == ratio.saves else "no"


def _interval(found: Sequence[float] | None) -> str:
    return "-" if found is None else f"{found[0]:.2f} ({found[1]:.2f} - {found[2]:.2f})"
