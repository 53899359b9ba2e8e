"""How often the probe's sign was right, counted by hand on made-up lines."""

from study.methods import LATE
from study.probed import signs


def run(regime, method, budget, accuracy):
    settings = {"sift": dict(LATE)}
    spec = {"regime": regime, "method": method, "seed": 0, "budget": budget, "rate": 1.0}
    return {"kind": "run", **spec, "accuracy": accuracy, "settings": settings}


def figures(exit_layer, per_second, at_equal_length):
    same = {"criterion": "loss", "token_fraction": 1.0, "overlap": None, "dropped_ratio": None}
    ratios = {"ratio": per_second, "ratio_at_equal_length": at_equal_length}
    return {**same, "exit_layer": exit_layer, **ratios}


def probe(regime, *found):
    return {"kind": "probe", "regime": regime, "held_out": "evaluation", "figures": list(found)}


def test_signs_are_counted_against_what_happened():
    """Vanilla has .2 at half the budget and .4 at the whole: .5 costs less than 1, .3 more."""
    lines = []
    for regime, loss, exact in (
        ("images_25_passes", 0.5, 0.3),
        ("images_25_passes_narrow", 0.3, None),
    ):
        lines += [run(regime, "vanilla", budget, 0.4 * budget) for budget in (0.5, 1.0)]
        lines.append(run(regime, "loss", 1.0, loss))
        if exact is not None:
            lines.append(run(regime, "exact", 1.0, exact))
    lines += [
        probe(
            "images_25_passes",
            figures(1, [1.5, 1.2, 1.9], [1.1, 0.8, 1.3]),  # right; open, right by value
            figures(2, [1.4, 1.1, 1.6], [0.7, 0.5, 0.9]),  # the last exit is exact: wrong; right
        ),
        probe(
            "images_25_passes_narrow",
            figures(1, [1.2, 0.9, 1.5], [0.9, 0.8, 0.95]),  # open, wrong by value; right
            figures(2, [0.5, 0.4, 0.6], [0.5, 0.4, 0.6]),  # nothing was trained by it
        ),
        probe("masked", figures(1, [2.0, 1.5, 3.0], None)),  # no frontier
    ]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in signs(lines).splitlines()]
    assert rows[2:] == [
        ["evaluation rows", "descent per second", "1", "1", "1", "1 of 3"],
        ["evaluation rows", "at equal length", "2", "0", "1", "3 of 3"],
    ]


def test_without_probes_nothing_is_counted():
    assert len(signs([]).splitlines()) == 2  # the head
