"""A probe's figures as a table, as JSON and as a picture."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sift_trainer.checkpoints.whole_files import write_json, write_text
from sift_trainer.probe.measurements import Estimate
from sift_trainer.probe.results import Choice, Descent, Figures, ProbeResult
from sift_trainer.tables import markdown


def write_report(result: ProbeResult, folder: str | Path) -> list[Path]:
    """Write ``probe.md``, ``probe.json`` and ``probe.png`` into a folder.

    Raises:
        ImportError: naming the extra, where matplotlib is missing.
    """
    from sift_trainer.probe.picture import plot_probe

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"probe.{kind}" for kind in ("md", "json", "png")]
    write_text(files[0], in_words(result))
    write_json(files[1], asdict(result))
    plot_probe(result, files[2])
    return files


def in_words(result: ProbeResult) -> str:
    """The recommendation, what it was measured on, and three Markdown tables."""
    weights = "its weights as they were given"
    if result.checkpoint is not None:
        weights = f"the weights of {result.checkpoint}"
    about = (
        f"{result.model} at {weights}: {result.batches} batches of {result.candidates} candidates, "
        f"{result.kept} kept; gradients on {result.gradient_batches} of them, of single rows on "
        f"{result.norm_batches}; forward and backward {1000 * result.step_seconds.value:.1f} ms "
        f"(median of {result.rounds} rounds). Ended by {result.ended_by} after "
        f"{result.seconds:.0f} s. {_held_out(result)} In parentheses: the lowest and highest round "
        "for scoring, Wilson's 95% interval for agreement, elsewhere 95% by bootstrap over batches."
    )
    found = _number(result.loss_ratio), _number(result.sigma_max)
    limits = f"At these weights rho_2 = {found[0]}, and sigma_max = {found[1]}."
    notes = "".join(f"- {note}\n" for note in result.notes)
    parts = [
        result.recommendation,
        about,
        _table(result, _COST).rstrip(),
        _table(result, _ORDER).rstrip(),
        limits,
        _table(result, _WORTH).rstrip(),
        f"Notes:\n\n{notes}".rstrip() if notes else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _held_out(result: ProbeResult) -> str:
    if result.held_out == "evaluation":
        return "Descent is of the loss of evaluation rows."
    return "Descent is of the loss of other candidates."


_Column = tuple[str, Callable[[Figures], str]]


def _table(result: ProbeResult, columns: tuple[_Column, ...]) -> str:
    head = ["criterion", "exit", "tokens", *(name for name, _ in columns)]
    rows = [[*_place(each.choice), *(cell(each) for _, cell in columns)] for each in result.figures]
    return markdown([head, *rows])


def _place(choice: Choice) -> list[str]:
    where = "-" if choice.exit_layer is None else str(choice.exit_layer)
    return [choice.criterion, where, f"{choice.token_fraction:g}"]


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _spread(found: Any, digits: int = 3) -> str:
    if found is None:
        return "-"
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} - {found.high:.{digits}f})"


def _per_second(found: Estimate | None) -> str:
    return "-" if found is None else f"{found.value:.3g} ({found.low:.3g} - {found.high:.3g})"


def _agreement(figures: Figures) -> str:
    found = figures.agreement
    if found is None:
        return "-"
    return f"{found.share:.3f} ({found.low:.3f} - {found.high:.3f})"


def _by_theorem(figures: Figures) -> str:
    if figures.beta is None:
        return "-"
    return f"{_number(figures.agreement_by_theorem)} (beta {figures.beta:.3f})"


def _sigma(figures: Figures) -> str:
    return _number(None if figures.noise is None else figures.noise.sigma)


def _small(figures: Figures) -> str:
    return {None: "-", True: "yes", False: "no"}[figures.noise_is_small]


def _norms(figures: Figures) -> str:
    found = figures.gradient_norms
    return "-" if found is None else f"{found.kept:.3g} / {found.dropped:.3g}"


def _of(
    descent: Callable[[Figures], Descent | None], cell: Callable[[Descent], str]
) -> Callable[[Figures], str]:
    def text(figures: Figures) -> str:
        found = descent(figures)
        return "-" if found is None else cell(found)

    return text


def _plain(figures: Figures) -> Descent | None:
    return figures.descent


def _adam(figures: Figures) -> Descent | None:
    return figures.adam_descent


_COST: tuple[_Column, ...] = (
    ("scoring / (forward + backward)", lambda each: _spread(each.scoring_share)),
    ("pays with fewer steps", lambda each: f"{100 * each.break_even:.1f}%"),
    ("overlap", lambda each: _spread(each.overlap)),
    ("Spearman", lambda each: _spread(each.spearman)),
)
_ORDER: tuple[_Column, ...] = (
    ("p_j", _agreement),
    ("by Theorem 6.2", _by_theorem),
    ("sigma", _sigma),
    ("below sigma_max", _small),
    ("rho_2,approx", lambda each: _number(each.approximate_loss_ratio)),
    ("gradient norm kept / dropped", _norms),
)
_WORTH: tuple[_Column, ...] = (
    ("descent per second", _of(_plain, lambda found: _per_second(found.kept))),
    ("random rows'", _of(_plain, lambda found: _per_second(found.random))),
    ("ratio", _of(_plain, lambda found: _spread(found.ratio, 2))),
    ("at equal length", _of(_plain, lambda found: _spread(found.ratio_at_equal_length, 2))),
    ("dropped rows'", _of(_plain, lambda found: _spread(found.dropped_ratio, 2))),
    ("AdamW's ratio", _of(_adam, lambda found: _spread(found.ratio, 2))),
    ("at equal length", _of(_adam, lambda found: _spread(found.ratio_at_equal_length, 2))),
    ("dropped rows'", _of(_adam, lambda found: _spread(found.dropped_ratio, 2))),
)
