"""``sift-trainer report RUN_DIR...``: runs beside the paper's tables and figures."""

import argparse
from pathlib import Path
from typing import Any

from sift_trainer.reproduction.report import build_report


def add_to(commands: Any) -> None:
    """Add the subcommand to what ``add_subparsers`` of a parser returned."""
    parser = commands.add_parser(
        "report",
        help="runs beside the paper's tables and figures",
        description="Write report.md, report.html and the figures over all runs in some folders.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folders",
        metavar="RUN_DIR",
        type=Path,
        nargs="+",
        help="a run's output_dir, or a folder of runs, of cells of a grid, or of seeds",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where to write; default: report/ in the first RUN_DIR",
    )
    parser.add_argument(
        "--target_accuracy",
        type=float,
        metavar="SHARE",
        help="accuracy in (0, 1] whose time and samples are compared; default: the paper's 0.64 "
        "if the baseline reaches it, else the highest that all runs reach",
    )
    parser.add_argument(
        "--summary",
        type=Path,
        metavar="PATH",
        help="also write PATH.json, all evaluations of all runs, and PATH.png, one picture",
    )
    parser.set_defaults(run=run)


def run(flags: argparse.Namespace) -> None:
    """Build the report, then write it; raises as `build_report` does."""
    report = build_report(flags.folders, flags.target_accuracy)
    output = flags.output or flags.folders[0] / "report"
    report.write(output)
    if flags.summary:
        report.write_summary(flags.summary)
    for line in report.summary:
        print(line)
    print(f"written: {output / 'report.html'}, {output / 'report.md'}")
