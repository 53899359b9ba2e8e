"""``sift-trainer probe --config FILE``: would sifting pay for the runs of a configuration?"""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sift_trainer.experiments.training import Experiment


def add_to(commands: Any) -> None:
    """Add the subcommand to what ``add_subparsers`` of a parser gave."""
    parser = commands.add_parser(
        "probe",
        help="whether sifting would pay, and by what, before a run",
        description="Measure on a few hundred batches of candidates what scoring costs and what "
        "the chosen rows bring, for every exit, criterion and token fraction. Nothing is trained.",
        epilog="Fields of the configuration go on the command line too: --max_length 64.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", required=True, help="of the runs, as YAML")
    parser.add_argument(
        "--run",
        dest="run_name",
        metavar="NAME",
        help="which of them; default: the first that sifts, or the first, as if it kept half",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="DIR",
        help="weights to probe at, and AdamW's second moments; default: freshly initialized",
    )
    parser.add_argument(
        "--exits", metavar="K", type=int, nargs="+", help="exit layers, -1: last; default: all"
    )
    parser.add_argument("--criteria", metavar="NAME", nargs="+", help="default: loss entropy")
    parser.add_argument(
        "--fractions",
        metavar="SHARE",
        type=float,
        nargs="+",
        default=[1.0, 0.25],
        help="token fractions; default: 1.0 0.25",
    )
    parser.add_argument("--batches", metavar="N", type=int, default=200, help="default: 200")
    parser.add_argument(
        "--gradient_batches",
        metavar="N",
        type=int,
        default=50,
        help="of them, for gradients; default: 50",
    )
    parser.add_argument(
        "--max_seconds",
        metavar="S",
        type=float,
        default=600.0,
        help="no batch is begun after; default: 600",
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="default: probe/ in the run's output_dir"
    )
    parser.set_defaults(run=run, takes_overrides=True)


def run(flags: argparse.Namespace) -> None:
    """Probe, then write and print what was found.

    Raises:
        ValueError: for a configuration, a run or a checkpoint that cannot be probed.
        ImportError: for a missing extra.
        OSError: for what cannot be written.
    """
    # Imported here: the other commands need neither a trainer nor the extras of data.
    from sift_trainer.config import parse_config
    from sift_trainer.experiments.one_run import sifting_run, trainer_of
    from sift_trainer.plots import require_matplotlib
    from sift_trainer.probe import probe, write_report
    from sift_trainer.probe.report import in_words

    require_matplotlib()
    experiment = _experiment_of(flags.config)
    config = parse_config(experiment.kinds, ["--config", flags.config, *flags.overrides])
    experiment.check(config)
    name = sifting_run(experiment, config, flags.run_name)
    settings = experiment.settings(*config.runs[name])
    if hasattr(settings, "duration"):
        # A run that takes as long as another needs that one to be finished; to probe it does not.
        settings = settings._replace(duration=type(settings.duration)())
    trainer = trainer_of(experiment, name, settings)
    result = probe(
        trainer,
        flags.checkpoint,
        flags.exits,
        flags.criteria,
        flags.fractions,
        batches=flags.batches,
        gradient_batches=flags.gradient_batches,
        max_seconds=flags.max_seconds,
    )
    files = write_report(result, flags.output or Path(trainer.args.output_dir) / "probe")
    print(in_words(result))
    print(f"written: {', '.join(map(str, files))}\n\n{result.recommendation}")


def _experiment_of(file: str) -> "Experiment[Any, Any]":
    """The kind of experiment that knows most of the fields in a configuration."""
    from sift_trainer.config import load_yaml
    from sift_trainer.image_classification import IMAGE_CLASSIFICATION
    from sift_trainer.pretraining import PRETRAINING

    named = set(load_yaml(file))

    def known(experiment: "Experiment[Any, Any]") -> int:
        return len(named & {field.name for kind in experiment.kinds for field in fields(kind)})

    return max((PRETRAINING, IMAGE_CLASSIFICATION), key=known)
