"""``sift-trainer probe``: would sifting pay for a configuration, or for a model and a dataset?"""

import argparse
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sift_trainer.model_and_dataset import ModelAndDataset

if TYPE_CHECKING:
    from sift_trainer import SiftTrainer
    from sift_trainer.probe import ProbeResult


def add_to(commands: Any) -> None:
    """Add the subcommand to what ``add_subparsers`` of a parser returned."""
    named = [f"  --{each.name}: {each.metadata['help']}" for each in fields(ModelAndDataset)]
    parser = commands.add_parser(
        "probe",
        help="whether sifting would pay, and by which choice, before a run",
        usage="%(prog)s (--config FILE | --model MODEL --dataset DATA) [options] [--FIELD VALUE]",
        description="Measure on a few hundred batches of candidates what scoring costs and what "
        "the chosen rows bring, for every exit, criterion and token fraction. Nothing is trained.",
        epilog="\n".join(
            [
                "instead of a configuration, a model and a dataset:",
                *named,
                "\nand any field of the configuration or of SiftTrainingArguments:",
                "  --max_length 64 --per_device_train_batch_size 16 --sift_keep_ratio 0.25",
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="of the runs, as YAML")
    parser.add_argument(
        "--run",
        dest="run_name",
        metavar="NAME",
        help="which of them; default: the first that sifts, or the first, as if it kept half",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="DIR",
        help="weights to probe at, and AdamW's second moments; default: as a training would begin",
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
        help="no batch begins later; default: 600",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="default: probe/ in the run's output_dir, or for a model and a dataset in the working "
        "directory",
    )
    parser.set_defaults(run=run, takes_fields=True)


def run(flags: argparse.Namespace) -> None:
    """Probe, then print and write the result.

    Raises:
        ValueError: for a configuration, a model, data or a checkpoint that cannot be probed.
        ImportError: naming the extra to install.
        OSError: for what cannot be read or written.
    """
    # Imported here, as in the functions below: other commands do not need it.
    from sift_trainer.plots import require_matplotlib
    from sift_trainer.probe import write_report
    from sift_trainer.probe.report import as_markdown

    require_matplotlib()
    probed = _model_and_dataset if flags.config is None else _configuration
    result, output = probed(flags)
    print(as_markdown(result))
    files = write_report(result, flags.output or output)
    print(f"written: {', '.join(map(str, files))}\n\n{result.recommendation}")


def _configuration(flags: argparse.Namespace) -> tuple["ProbeResult", Path]:
    """The result for a run of a configuration, and the default folder for its report."""
    from sift_trainer.config import load_yaml, parse_config
    from sift_trainer.experiments.one_run import sifting_run, trainer_of
    from sift_trainer.image_classification import IMAGE_CLASSIFICATION
    from sift_trainer.pretraining import PRETRAINING

    # Every configuration for images names its dataset; one for text names its sources.
    experiment: Any = IMAGE_CLASSIFICATION if "dataset" in load_yaml(flags.config) else PRETRAINING
    config = parse_config(experiment.kinds, ["--config", flags.config, *flags.fields])
    experiment.check(config)
    name = sifting_run(experiment, config, flags.run_name)
    settings = experiment.settings(*config.runs[name])
    if hasattr(settings, "duration"):
        # A run that takes as long as another one waits for its end; a probe does not.
        settings = settings._replace(duration=type(settings.duration)())
    trainer = trainer_of(experiment, name, settings)
    return _probed(trainer, flags), Path(settings.args.output_dir) / name / "probe"


def _model_and_dataset(flags: argparse.Namespace) -> tuple["ProbeResult", Path]:
    """The result for a model and a dataset, and the default folder for its report."""
    from sift_trainer import SiftTrainingArguments
    from sift_trainer.config import parse_config
    from sift_trainer.model_and_dataset import build_trainer
    from sift_trainer.probe import check_settings

    if flags.run_name is not None:
        raise ValueError(f"--run {flags.run_name} is of a configuration; add --config FILE")
    source, args = parse_config((ModelAndDataset, SiftTrainingArguments), flags.fields).instances
    check_settings(
        args,
        flags.checkpoint,
        flags.criteria,
        flags.fractions,
        flags.batches,
        max_seconds=flags.max_seconds,
    )
    batches = flags.batches + max(0, min(flags.gradient_batches, flags.batches))
    with TemporaryDirectory() as folder:  # a Trainer creates its output_dir
        built = build_trainer(source, replace(args, output_dir=folder), batches)
        result = _probed(built.trainer, flags)
    return replace(result, notes=(*built.notes, *result.notes)), Path("probe")


def _probed(trainer: "SiftTrainer", flags: argparse.Namespace) -> "ProbeResult":
    from sift_trainer.probe import probe

    return probe(
        trainer,
        flags.checkpoint,
        flags.exits,
        flags.criteria,
        flags.fractions,
        batches=flags.batches,
        gradient_batches=flags.gradient_batches,
        max_seconds=flags.max_seconds,
    )
