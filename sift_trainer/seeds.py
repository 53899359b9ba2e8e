"""The same runs with several seeds: their mean as a run, and the spread that judges it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from sift_trainer.report import Point, Run, Totals, read_run
from sift_trainer.run_log import FILE
from sift_trainer.tables import markdown

Group = Sequence[Run]


def read_seeds(folders: Sequence[str | Path]) -> dict[str, list[Run]]:
    """Name of a run -> that run in each of the `folders`, as the output folders of one
    configuration that was trained with several seeds.

    Raises:
        ValueError: a folder has no runs, or not those of the first.
    """
    groups: dict[str, list[Run]] = {}
    for folder in map(Path, folders):
        names = [file.parent.name for file in sorted(folder.glob(f"*/{FILE}"))]
        if not names:
            raise ValueError(f"{folder}: no folder in it has a {FILE}; give the output_dir of runs")
        if groups and set(names) != set(groups):
            raise ValueError(f"{folder} has the runs {names}, {folders[0]} has {sorted(groups)}")
        for name in names:
            groups.setdefault(name, []).append(read_run(name, folder / name))
    return groups


def mean_run(name: str, runs: Group) -> Run:
    """Point by point the mean of accuracies and of what was spent.

    Raises:
        ValueError: the runs were not evaluated at the same steps.
    """
    steps = [[point.spent.step for point in run.points] for run in runs]
    if any(other != steps[0] for other in steps):
        raise ValueError(
            f"run {name!r} was evaluated at the steps {steps[0]} and {max(steps, key=len)}; "
            "compare seeds of one configuration that have finished"
        )
    points = []
    for at_step in zip(*(run.points for run in runs), strict=True):
        nsp = [point.nsp_accuracy for point in at_step]
        points.append(
            Point(
                _mean_totals([point.spent for point in at_step]),
                mean(point.accuracy for point in at_step),
                None if None in nsp else mean(value for value in nsp if value is not None),
            )
        )
    stretches = zip(*(run.sifted for run in runs), strict=False)
    sifted = [
        (_mean_totals([begin for begin, _ in each]), _mean_totals([end for _, end in each]))
        for each in stretches
    ]
    return Run(name, points, sifted, runs[0].measure)


def _mean_totals(totals: Sequence[Totals]) -> Totals:
    return Totals(
        mean(each.step for each in totals),
        {phase: mean(each.seconds[phase] for each in totals) for phase in totals[0].seconds},
        mean(each.backprop_samples for each in totals),
        mean(each.candidates for each in totals),
    )


def spread_table(groups: Mapping[str, Group]) -> str:
    """A Markdown table with a row per evaluation and a column per run: mean accuracy, and the
    lowest and highest of the seeds."""
    rows = [["step", "backpropagated", *groups]]
    first = next(iter(groups.values()))[0]
    for index, point in enumerate(first.points):
        cells = []
        for runs in groups.values():
            values = [run.points[index].accuracy for run in runs]
            cells.append(f"{mean(values):.4f} ({min(values):.4f} to {max(values):.4f})")
        rows.append([f"{point.spent.step:.0f}", f"{point.spent.backprop_samples:.0f}", *cells])
    return markdown(rows)
