"""The console command ``sift-trainer``, a file for each of its subcommands."""

import argparse
import sys
from collections.abc import Sequence

from sift_trainer.commands import report

_COMMANDS = (report,)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status of a subcommand: 0, or 2 with one line on standard error for what a user can
    mend."""
    parser = argparse.ArgumentParser(prog="sift-trainer", allow_abbrev=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_to(commands)
    flags = parser.parse_args(argv)
    try:
        flags.run(flags)
    except (ValueError, ImportError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0
