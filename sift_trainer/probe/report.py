"""The figures of a probe as Markdown, as JSON and as a picture."""

from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sift_trainer.checkpoints.whole_files import write_json, write_text
from sift_trainer.probe.markdown import markdown
from sift_trainer.probe.picture import plot_probe
from sift_trainer.probe.results import Figures, ProbeResult


def write_report(result: ProbeResult, folder: str | Path) -> list[Path]:
    """Write ``probe.md``, ``probe.json`` and, if matplotlib is installed, ``probe.png``; returns
    their paths."""
    folder = Path(folder)
    files = [folder / "probe.md", folder / "probe.json"]
    write_text(files[0], as_markdown(result))
    write_json(files[1], asdict(result))
    if find_spec("matplotlib") is not None:
        files.append(plot_probe(result, folder / "probe.png"))
    return files


def as_markdown(result: ProbeResult) -> str:
    weights = "its own weights" if result.checkpoint is None else f"those of {result.checkpoint}"
    rows = "evaluation rows" if result.held_out == "evaluation" else "other candidates"
    about = (
        f"{result.model} at {weights}: {result.batches} batches of {result.candidates} candidates, "
        f"{result.kept} kept; gradients on {result.gradient_batches} of them; forward and backward "
        f"{1000 * result.step_seconds.value:.1f} ms (median of {result.rounds} rounds); "
        f"{result.seconds:.0f} s in all. Descent is of the loss of {rows}, by "
        f"{'AdamW' if result.by_adam else 'gradient'} updates. In parentheses: the lowest and "
        "highest round for scoring, Wilson's 95% interval for p_j, else 95% by bootstrap."
    )
    ratio, limit = _number(result.loss_ratio), _number(result.sigma_max)
    parts = [
        result.recommendation,
        about,
        _table(result, _SCORES),
        f"At these weights rho_2 = {ratio}, and sigma_max = {limit}.",
        _table(result, _WORTH),
    ]
    if result.notes:
        parts.append("Notes:\n\n" + "\n".join(f"- {note}" for note in result.notes))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _table(result: ProbeResult, columns: dict[str, Callable[[Figures], str]]) -> str:
    head = ["criterion", "exit", "tokens", *columns]
    rows = [
        [
            each.choice.criterion,
            "-" if each.choice.exit_layer is None else str(each.choice.exit_layer),
            f"{each.choice.token_fraction:g}",
            *(cell(each) for cell in columns.values()),
        ]
        for each in result.figures
    ]
    return markdown([head, *rows])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(found: Any, value: str = "value", form: str = ".3f") -> str:
    if found is None:
        return "-"
    return f"{getattr(found, value):{form}} ({found.low:{form}} - {found.high:{form}})"


def _descent(name: str, form: str = ".2f") -> Callable[[Figures], str]:
    return lambda each: _interval(getattr(each.descent, name, None), form=form)


_SCORES: dict[str, Callable[[Figures], str]] = {
    "scoring / (forward + backward)": lambda each: _interval(each.scoring_share),
    "pays with fewer steps": lambda each: f"{100 * each.break_even:.1f}%",
    "overlap": lambda each: _interval(each.overlap),
    "Spearman": lambda each: _interval(each.spearman),
    "p_j": lambda each: _interval(each.agreement, "share"),
    "sigma": lambda each: _number(each.noise.sigma if each.noise else None),
    "rho_2,approx": lambda each: _number(each.approximate_loss_ratio),
}
_WORTH: dict[str, Callable[[Figures], str]] = {
    "descent per second": _descent("kept", ".3g"),
    "random rows'": _descent("random", ".3g"),
    "ratio": _descent("ratio"),
    "at equal length": _descent("ratio_at_equal_length"),
    "dropped rows'": _descent("dropped_ratio"),
}
