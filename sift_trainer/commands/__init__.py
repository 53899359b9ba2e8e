"""The console command ``sift-trainer``, a file for each of its subcommands."""

import argparse
import sys
from collections.abc import Sequence

from sift_trainer.commands import probe, report

_COMMANDS = (probe, report)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status of a subcommand: 0, or 2 with one line on standard error for what a user can
    mend."""
    parser = argparse.ArgumentParser(prog="sift-trainer", allow_abbrev=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_to(commands)
    flags, overrides = parser.parse_known_args(argv)
    if overrides and not getattr(flags, "takes_overrides", False):
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    flags.overrides = overrides  # fields of a configuration, which its own parser knows
    try:
        flags.run(flags)
    except (ValueError, ImportError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0
