"""Sifting beside vanilla, from data that a model cannot fit to data that it learns by heart, for
`time_to_accuracy.py`."""

from collections.abc import Sequence
from statistics import mean

from sift_trainer.probe.markdown import markdown
from study.cells import spread
from study.compared import Line, beside, compared_runs
from study.regimes import REGIMES
from study.results import runs_of

BY_CAPACITY = (
    *("images_few_passes", "images", "images_long"),
    *("images_25_passes_narrow", "images_25_passes", "images_25_passes_wide"),
    *("causal", "causal_5_passes", "causal_25_passes"),
)
_EXACT = {"loss": "exact", "loss_quarter": "loss_quarter_exact"}


def capacity(lines: Sequence[Line]) -> str:
    """The difference to vanilla's accuracy at equal cost and with the same seeds: by exact losses,
    at exit 1, and there with half of the rows at random."""
    rows = [
        [
            *("regime", "passes", "parameters", "vanilla's loss on training rows", "vanilla"),
            *("exact losses", "exit 1", "half at random"),
        ]
    ]
    for name in BY_CAPACITY:
        found = compared_runs(runs_of(lines, name))
        vanilla = found.get("vanilla", {}).get(1.0, [])
        if not vanilla:
            continue
        regime, settings = REGIMES[name], vanilla[0]["settings"]
        passes = regime.steps * regime.batch_size / settings["rows"]
        usual = next((each for each in _EXACT if each in found), "loss")
        methods = _EXACT[usual], usual, f"{usual}_mixed"
        rows.append(
            [
                *(name, f"{passes:.1f}", f"{settings['parameters'] / 1e6:.2f}M"),
                spread([line["trained_loss"] for line in vanilla], 3),
                spread([line["accuracy"] for line in vanilla], 4),
                *(_beside(found.get(each, {}).get(1.0, []), vanilla) for each in methods),
            ]
        )
    return markdown(rows)


def _beside(own: Sequence[Line], vanilla: Sequence[Line]) -> str:
    """Mean difference over the seeds of both, and how many these are."""
    found = beside(own, vanilla)
    return f"{mean(found):+.3f} ({len(found)})" if found else "-"
