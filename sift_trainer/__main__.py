"""The console command ``sift-trainer``, also ``python -m sift_trainer``."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from sift_trainer import __version__

# By name: a command imports what only it needs, and the report's packages may be missing.
COMMANDS = ("sift_trainer.probe.command", "sift_trainer.reproduction.report.command")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Returns:
        The exit status: 0, or 2 after one line on standard error for a mistake of the user.
    """
    parser = argparse.ArgumentParser(prog="sift-trainer", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"sift-trainer {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        import_module(command).add_to(commands)
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


if __name__ == "__main__":
    sys.exit(main())
