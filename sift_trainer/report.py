"""From the log of a training run to the numbers of the paper's Table 1, Table 6, Figures 1 and 2.

Everything is computed from a run's log lines (`log.jsonl`, or the Trainer's `log_history`):
evaluation lines carry the accuracies, training lines the totals that `SiftCallback` measures.
Seconds are the sum of the measured phases, so evaluation and checkpointing never count as training.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sift_trainer.atomic_write import write_json, write_text
from sift_trainer.run_log import FILE, machine, read_run_log
from sift_trainer.timing import PHASES

History = Sequence[Mapping[str, Any]]

REFERENCES = ("vanilla", "baseline")
_COLUMNS = ("sampling", "forward", "backward", "optimizer", "data")


@dataclass(frozen=True)
class Totals:
    """What a run has spent since its start.

    Attributes:
        step: optimizer steps.
        seconds: per phase, on the logging process.
        backprop_samples: samples trained on, all processes together.
        candidates: samples drawn, all processes together.
    """

    step: float
    seconds: dict[str, float]
    backprop_samples: float
    candidates: float

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Point:
    """One evaluation: accuracies in [0, 1] and what the run had spent by then."""

    spent: Totals
    mlm_accuracy: float
    nsp_accuracy: float | None


@dataclass(frozen=True)
class Run:
    """One run: its evaluations in order, and the (begin, end) of each stretch that was sifted."""

    name: str
    points: list[Point]
    sifted: list[tuple[Totals, Totals]]

    @property
    def final(self) -> Point:
        return self.points[-1]

    def seconds_to(self, mlm_accuracy: float) -> float | None:
        """Training seconds until the validation MLM accuracy is reached; None if it never is.

        Linear between evaluations, like the hours to 64% that Section 7.1 reads off Figure 2.
        """
        if self.points[0].mlm_accuracy >= mlm_accuracy:
            return self.points[0].spent.total_seconds
        for before, after in pairwise(self.points):
            if after.mlm_accuracy >= mlm_accuracy:
                gained = after.mlm_accuracy - before.mlm_accuracy
                share = (mlm_accuracy - before.mlm_accuracy) / gained
                return _between(before.spent, after.spent, share).total_seconds
        return None


def read_run(name: str, folder: str | Path) -> Run:
    """The run whose `log.jsonl` is in `folder`, finished or not."""
    return summarize(name, read_run_log(folder))


def earlier_runs(folder: Path, known: Collection[str]) -> list[Run]:
    """The evaluated runs whose folders are in `folder`, by name, without the `known` ones."""
    runs = []
    for file in sorted(folder.glob(f"*/{FILE}")):
        if file.parent.name not in known:
            with suppress(ValueError):  # not evaluated yet
                runs.append(read_run(file.parent.name, file.parent))
    return runs


def summarize(name: str, history: History) -> Run:
    """The run that `history` describes.

    Raises `ValueError` where there is no evaluation with `eval_mlm_accuracy`, no training line with
    the `sift/*` totals, or an evaluation later than the last of those.
    """
    spent = totals(history)
    evaluations = {
        int(line["step"]): line for line in history if "eval_mlm_accuracy" in line
    }  # the last one of a step: a resumed run may have evaluated it twice
    if not evaluations:
        raise ValueError(f"run {name!r} logged no eval_mlm_accuracy; set eval_strategy='steps'")
    try:
        points = [
            Point(totals_at(spent, step), line["eval_mlm_accuracy"], line.get("eval_nsp_accuracy"))
            for step, line in sorted(evaluations.items())
        ]
    except ValueError as error:
        raise ValueError(f"run {name!r}: {error}") from error
    return Run(name, points, _sifted(spent))


def totals(history: History) -> list[Totals]:
    """The totals in each log line that carries them, by step, beginning with zeros at step 0."""
    lines = {
        line["step"]: Totals(
            line["step"],
            {phase: line[f"sift/{phase}_hours"] * 3600 for phase in PHASES},
            line["sift/backprop_samples"],
            line["sift/candidates"],
        )
        for line in history
        if "sift/backprop_samples" in line
    }
    start = Totals(0, dict.fromkeys(PHASES, 0.0), 0, 0)
    return [start, *(lines[step] for step in sorted(lines) if step > 0)]


def totals_at(spent: Sequence[Totals], step: float) -> Totals:
    """The totals at `step`, linear between the two log lines around it.

    Raises `ValueError` beyond the last line, where a guess would understate what was spent.
    """
    steps = [line.step for line in spent]
    if step > steps[-1]:
        raise ValueError(
            f"step {step} was evaluated, but the last sift/* totals were logged at step "
            f"{steps[-1]}; log at every evaluation, as with logging_steps equal to eval_steps"
        )
    index = bisect_left(steps, step)
    if steps[index] == step:
        return spent[index]
    before, after = spent[index - 1], spent[index]
    return _between(before, after, (step - before.step) / (after.step - before.step))


def table(runs: Iterable[Run], reference: str | None = None) -> str:
    """Two Markdown tables with a row per run, at its last evaluation.

    `reference` is the run that the others are held to; by default one named vanilla or baseline.

    The first has the accuracies and the training time, as difference and ratio to `reference`, and
    when the reference's last accuracy was reached, as a share of the reference's own time (the
    paper's 43 h of 57 h is 0.75x). The second has the seconds of each phase, and the samples.
    """
    runs = list(runs)
    wanted = REFERENCES if reference is None else (reference,)
    base = next((run for run in runs if run.name in wanted), None)
    reference = wanted[0] if base is None else base.name
    head = ["run", "MLM accuracy", f"vs {reference}", "NSP accuracy", "seconds", f"vs {reference}"]
    reached = [*head, f"reached {reference}'s accuracy"]
    spent = ["run", *(f"{phase} (s)" for phase in _COLUMNS), "backpropagated", "candidates"]
    return (
        markdown([reached, *(_reached(run, base) for run in runs)])
        + "\n"
        + markdown([spent, *(_spent(run) for run in runs)])
    )


def write_report(folder: str | Path, runs: Sequence[Run], settings: Mapping[str, Any]) -> str:
    """Write `table.md` and `results.json`, with `settings` and the machine; return the table."""
    text = table(runs)
    result = {"machine": machine(), **settings, "runs": [asdict(run) for run in runs]}
    write_json(Path(folder) / "results.json", result)
    write_text(Path(folder) / "table.md", text)
    return text


def _reached(run: Run, base: Run | None) -> list[str]:
    final, seconds = run.final, run.final.spent.total_seconds
    difference = ratio = reached = "-"
    if base is not None:
        whole = base.final.spent.total_seconds
        difference = f"{final.mlm_accuracy - base.final.mlm_accuracy:+.4f}"
        ratio = f"{seconds / whole:.2f}x"
        moment = run.seconds_to(base.final.mlm_accuracy)
        reached = "never" if moment is None else f"after {moment / whole:.2f}x"
    nsp = "-" if final.nsp_accuracy is None else f"{final.nsp_accuracy:.4f}"
    accuracy = f"{final.mlm_accuracy:.4f}"
    return [run.name, accuracy, difference, nsp, f"{seconds:.1f}", ratio, reached]


def _spent(run: Run) -> list[str]:
    spent = run.final.spent
    seconds = [f"{spent.seconds[phase]:.1f}" for phase in _COLUMNS]
    return [run.name, *seconds, f"{spent.backprop_samples:.0f}", f"{spent.candidates:.0f}"]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table of which the first row is the head; columns line up in plain text too."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [
        [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        for row in (rows[0], rule, *rows[1:])
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _sifted(spent: Sequence[Totals]) -> list[tuple[Totals, Totals]]:
    """Stretches between log lines in which scoring took time, neighbours joined."""
    stretches: list[tuple[Totals, Totals]] = []
    for before, after in pairwise(spent):
        if after.seconds["sampling"] <= before.seconds["sampling"]:
            continue
        if stretches and stretches[-1][1] is before:
            stretches[-1] = (stretches[-1][0], after)
        else:
            stretches.append((before, after))
    return stretches


def _between(before: Totals, after: Totals, share: float) -> Totals:
    def mix(low: float, high: float) -> float:
        return low + share * (high - low)

    return Totals(
        mix(before.step, after.step),
        {phase: mix(before.seconds[phase], after.seconds[phase]) for phase in before.seconds},
        mix(before.backprop_samples, after.backprop_samples),
        mix(before.candidates, after.candidates),
    )
