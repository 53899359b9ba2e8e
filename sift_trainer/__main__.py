"""The console command ``sift-trainer``, also ``python -m sift_trainer``."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from sift_trainer import __version__

# By name: a command imports what only it needs, which may not be installed.
COMMANDS = {
    "probe": ("sift_trainer.probe.command", "whether sifting would pay, before a run"),
    "reference-loss": ("sift_trainer.probe.reference", "a column for sift_reference_column"),
    "report": ("sift_trainer.reproduction.report.command", "runs beside the paper's tables"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status, 2 after one line on what the user can correct."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="sift-trainer", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"sift-trainer {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    try:
        for name, (module, text) in COMMANDS.items():
            if words[:1] == [name]:
                import_module(module).add_to(commands)
            else:
                commands.add_parser(name, help=text)
        flags, fields = parser.parse_known_args(words)
        if fields and not getattr(flags, "takes_fields", False):
            parser.error(f"unrecognized arguments: {' '.join(fields)}")
        flags.fields = fields  # of a configuration, whose own parser knows them
        flags.run(flags)
    except (ValueError, ImportError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
