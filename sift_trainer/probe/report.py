"""The figures of a probe as Markdown, as JSON and as a picture."""

from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sift_trainer.checkpoints.whole_files import write_json, write_text
from sift_trainer.probe.markdown import markdown
from sift_trainer.probe.picture import plot_probe
from sift_trainer.probe.results import Descent, Figures, ProbeResult

_Column = tuple[str, Callable[[Figures], str]]


def write_report(result: ProbeResult, folder: str | Path) -> list[Path]:
    """Write ``probe.md``, ``probe.json`` and, if matplotlib is installed, ``probe.png`` into a
    folder; returns the paths of the files."""
    folder = Path(folder)
    files = [folder / "probe.md", folder / "probe.json"]
    write_text(files[0], as_markdown(result))
    write_json(files[1], asdict(result))
    if find_spec("matplotlib") is not None:
        files.append(plot_probe(result, folder / "probe.png"))
    return files


def as_markdown(result: ProbeResult) -> str:
    """The recommendation, what was measured, and three tables."""
    weights = "its weights as they were given"
    if result.checkpoint is not None:
        weights = f"the weights of {result.checkpoint}"
    rows = "evaluation rows" if result.held_out == "evaluation" else "other candidates"
    about = (
        f"{result.model} at {weights}: {result.batches} batches of {result.candidates} candidates, "
        f"{result.kept} kept; gradients on {result.gradient_batches} of them, of single rows on "
        f"{result.norm_batches}; forward and backward {1000 * result.step_seconds.value:.1f} ms "
        f"(median of {result.rounds} rounds). Ended by {result.ended_by} after "
        f"{result.seconds:.0f} s. Descent is of the loss of {rows}. In parentheses: the lowest and "
        "highest round for scoring, Wilson's 95% interval for agreement, elsewhere 95% by "
        "bootstrap over batches."
    )
    found = _number(result.loss_ratio), _number(result.sigma_max)
    parts = [
        result.recommendation,
        about,
        _table(result, _COST),
        _table(result, _ORDER),
        f"At these weights rho_2 = {found[0]}, and sigma_max = {found[1]}.",
        _table(result, _WORTH),
    ]
    if result.notes:
        parts.append("Notes:\n\n" + "\n".join(f"- {note}" for note in result.notes))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _table(result: ProbeResult, columns: tuple[_Column, ...]) -> str:
    head = ["criterion", "exit", "tokens", *(name for name, _ in columns)]
    rows = [
        [
            each.choice.criterion,
            "-" if each.choice.exit_layer is None else str(each.choice.exit_layer),
            f"{each.choice.token_fraction:g}",
            *(cell(each) for _, cell in columns),
        ]
        for each in result.figures
    ]
    return markdown([head, *rows])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(found: Any, form: str = ".3f") -> str:
    """An `Estimate`, or None."""
    if found is None:
        return "-"
    return f"{found.value:{form}} ({found.low:{form}} - {found.high:{form}})"


def _agreement(figures: Figures) -> str:
    found = figures.agreement
    return "-" if found is None else f"{found.share:.3f} ({found.low:.3f} - {found.high:.3f})"


def _by_theorem(figures: Figures) -> str:
    if figures.beta is None:
        return "-"
    return f"{_number(figures.agreement_by_theorem)} (beta {figures.beta:.3f})"


def _norms(figures: Figures) -> str:
    found = figures.gradient_norms
    return "-" if found is None else f"{found.kept:.3g} / {found.dropped:.3g}"


def _ratios(descent: Callable[[Figures], Descent | None], name: str) -> tuple[_Column, ...]:
    def column(field: str) -> Callable[[Figures], str]:
        return lambda each: _interval(getattr(descent(each), field, None), ".2f")

    return (
        (name, column("ratio")),
        ("at equal length", column("ratio_at_equal_length")),
        ("dropped rows'", column("dropped_ratio")),
    )


_COST: tuple[_Column, ...] = (
    ("scoring / (forward + backward)", lambda each: _interval(each.scoring_share)),
    ("pays with fewer steps", lambda each: f"{100 * each.break_even:.1f}%"),
    ("overlap", lambda each: _interval(each.overlap)),
    ("Spearman", lambda each: _interval(each.spearman)),
)
_ORDER: tuple[_Column, ...] = (
    ("p_j", _agreement),
    ("by Theorem 6.2", _by_theorem),
    ("sigma", lambda each: _number(None if each.noise is None else each.noise.sigma)),
    ("below sigma_max", lambda each: {None: "-", True: "yes", False: "no"}[each.noise_is_small]),
    ("rho_2,approx", lambda each: _number(each.approximate_loss_ratio)),
    ("gradient norm kept / dropped", _norms),
)
_WORTH: tuple[_Column, ...] = (
    ("descent per second", lambda each: _interval(each.descent and each.descent.kept, ".3g")),
    ("random rows'", lambda each: _interval(each.descent and each.descent.random, ".3g")),
    *_ratios(lambda each: each.descent, "ratio"),
    *_ratios(lambda each: each.adam_descent, "AdamW's ratio"),
)
