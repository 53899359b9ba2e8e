"""Time and samples to a target accuracy (Section 7.1: 43 hours of 57 to 64%)."""

from typing import NamedTuple

from sift_trainer.reproduction import paper
from sift_trainer.reproduction.report.groups import MASKED_LM, Comparison, Group
from sift_trainer.reproduction.report.history import Run
from sift_trainer.reproduction.report.page import Table
from sift_trainer.reproduction.report.statistics import against, ratio, spread, unit_of


class Target(NamedTuple):
    """An accuracy in [0, 1], and why it was chosen."""

    accuracy: float
    why: str


def choose_target(comparison: Comparison, wanted: float | None) -> Target:
    """The wanted one; else the paper's, if every seed of a masked-LM baseline reaches it; else the
    highest that all runs reach."""
    if wanted is not None:
        return Target(wanted, "as requested")
    least = min(run.best_accuracy for run in comparison.runs)
    why = "the highest that all runs reach"
    if comparison.measure != MASKED_LM:
        return Target(least, why)
    if comparison.baseline is None:
        return Target(least, f"{why}; there is no baseline that could reach the paper's")
    reached = min(run.best_accuracy for run in comparison.baseline.runs)
    if reached >= paper.TARGET_ACCURACY:
        return Target(paper.TARGET_ACCURACY, "the paper's, which the baseline reaches")
    below = f"the baseline reaches {reached:.4f}, below the paper's {paper.TARGET_ACCURACY}"
    return Target(least, f"{why}; {below}")


def target_table(comparison: Comparison, target: Target) -> Table:
    """A row for each configuration."""

    def seconds(run: Run) -> float | None:
        return run.seconds_to(target.accuracy)

    def samples(run: Run) -> float | None:
        spent = run.spent_at(target.accuracy)
        return None if spent is None else spent.backprop_samples

    def time_ratio(run: Run, base: Run) -> float | None:
        return ratio(seconds(run), seconds(base))

    def samples_ratio(run: Run, base: Run) -> float | None:
        return ratio(samples(run), samples(base))

    times = [time for run in comparison.runs if (time := seconds(run)) is not None]
    unit, rows = unit_of(times), []
    for group in comparison.groups:
        hours, pair = _papers_hours(group), (group, comparison.baseline)
        reached = sum(seconds(run) is not None for run in group.runs)
        share = ratio(hours, paper.BASELINE_HOURS_TO_TARGET)
        times_to = [ratio(seconds(run), unit.seconds) for run in group.runs]
        row = {
            "run": group.label,
            f"time ({unit.name})": spread(times_to, unit.form),
            "time ratio": against(*pair, time_ratio, ".2f", "x", timed=True),
            "paper: time ratio": spread([share], ".2f", "x"),
            "samples trained on": spread([samples(run) for run in group.runs], ",.0f"),
            "samples ratio": against(*pair, samples_ratio, ".2f", "x"),
            "seeds that reach it": f"{reached} of {len(group.runs)}",
            "paper: to 64% (h)": spread([hours], ".0f"),
        }
        masked = comparison.measure == MASKED_LM
        rows.append({name: row[name] for name in row if masked or not name.startswith("paper")})
    return rows


def target_note(target: Target) -> str:
    return (
        f"To an accuracy of {target.accuracy:.4f} ({target.why}). Values are read off a line "
        "between evaluations. Time is training time: sampling counts, evaluation does not. A "
        "configuration of which a seed does not reach the accuracy has no mean."
    )


def _papers_hours(group: Group) -> float | None:
    """The paper's hours to 64%; None if it does not state them."""
    if group.is_baseline:
        return paper.BASELINE_HOURS_TO_TARGET
    if not group.is_the_papers or group.is_last_exit:
        return None
    return paper.HOURS_TO_TARGET.get(group.sift("criterion"), {}).get(group.exit_layer or 0)
