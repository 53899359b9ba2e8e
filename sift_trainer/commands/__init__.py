"""The console command ``sift-trainer``, with one file for each subcommand."""

import argparse
import sys
from collections.abc import Sequence

from sift_trainer import __version__
from sift_trainer.commands import probe, report


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Returns:
        The exit status: 0, or 2 after one line on standard error for a mistake of the user.
    """
    parser = argparse.ArgumentParser(prog="sift-trainer", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"sift-trainer {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (probe, report):
        command.add_to(commands)
    flags, fields = parser.parse_known_args(argv)
    if fields and not getattr(flags, "takes_fields", False):
        parser.error(f"unrecognized arguments: {' '.join(fields)}")
    flags.fields = fields  # of a configuration, whose own parser knows them
    try:
        flags.run(flags)
    except (ValueError, ImportError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0
