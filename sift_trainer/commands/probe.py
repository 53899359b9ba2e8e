"""``sift-trainer probe``: would sifting pay for the runs of a configuration, or for a model and a
dataset?"""

import argparse
import os
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sift_trainer.model_and_dataset import ModelAndDataset

if TYPE_CHECKING:
    from sift_trainer import SiftTrainer
    from sift_trainer.experiments.training import Experiment
    from sift_trainer.probe import ProbeResult


def add_to(commands: Any) -> None:
    """Add the subcommand to what ``add_subparsers`` of a parser gave."""
    parser = commands.add_parser(
        "probe",
        help="whether sifting would pay, and by what, before a run",
        usage="%(prog)s (--config FILE | --model MODEL --dataset DATA) [options] [--FIELD VALUE]",
        description="Measure on a few hundred batches of candidates what scoring costs and what "
        "the chosen rows bring, for every exit, criterion and token fraction. Nothing is trained.",
        epilog="Fields of a configuration go on the command line too: --max_length 64.",
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
        help="no batch is begun after; default: 600",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="default: probe/ in the run's output_dir, or for a model and a dataset in the working "
        "directory",
    )
    named = parser.add_argument_group(
        "a model and a dataset instead of a configuration",
        "With any field of SiftTrainingArguments, such as --per_device_train_batch_size 16 --bf16 "
        "true --sift_keep_ratio 0.25.",
    )
    for each in fields(ModelAndDataset):
        # They are only told apart from a configuration's here; parse_config gives them their types.
        kind: dict[str, Any] = {"metavar": each.name.rpartition("_")[2].upper()}
        if each.name == "dataset":
            kind["nargs"] = "+"
        if each.name == "from_config":
            kind = {"nargs": "?", "const": "true", "metavar": "BOOL"}
        named.add_argument(f"--{each.name}", help=each.metadata["help"], **kind)
    parser.set_defaults(run=run, takes_overrides=True)


def run(flags: argparse.Namespace) -> None:
    """Probe, then write and print what was found.

    Raises:
        ValueError: for a configuration, a model, data or a checkpoint that cannot be probed.
        ImportError: for a missing extra.
        OSError: for what cannot be read or written.
    """
    # Imported here, as in the functions below: the other commands need none of it.
    from sift_trainer.plots import require_matplotlib
    from sift_trainer.probe import write_report
    from sift_trainer.probe.report import as_markdown

    require_matplotlib()
    if flags.config is not None:
        result, output = _of_a_configuration(flags)
    elif flags.model is not None or flags.dataset is not None:
        result, output = _of_a_model_and_dataset(flags)
    else:
        raise ValueError(
            "there is nothing to probe; give --config FILE, or --model MODEL and --dataset DATA"
        )
    files = write_report(result, output)
    print(as_markdown(result))
    print(f"written: {', '.join(map(str, files))}\n\n{result.recommendation}")


def _of_a_configuration(flags: argparse.Namespace) -> tuple["ProbeResult", Path]:
    from sift_trainer.config import parse_config
    from sift_trainer.experiments.one_run import sifting_run, trainer_of

    named = _named(flags)
    _refuse_both(flags.config, named, set(named) - {"model"})
    experiment = _experiment_of(flags.config)
    # Some configurations have fields of these names, such as the dataset of the ResNet's.
    own = {each.name for kind in experiment.kinds for each in fields(kind)}
    _refuse_both(flags.config, named, own)
    argv = ["--config", flags.config, *_argv(named), *flags.overrides]
    config = parse_config(experiment.kinds, argv)
    experiment.check(config)
    name = sifting_run(experiment, config, flags.run_name)
    settings = experiment.settings(*config.runs[name])
    if hasattr(settings, "duration"):
        # A run that takes as long as another needs that one to be finished; to probe it does not.
        settings = settings._replace(duration=type(settings.duration)())
    output = flags.output or Path(settings.args.output_dir) / name / "probe"
    _check_writable(output)
    return _probed(trainer_of(experiment, name, settings), flags), output


def _of_a_model_and_dataset(flags: argparse.Namespace) -> tuple["ProbeResult", Path]:
    from sift_trainer import SiftTrainingArguments
    from sift_trainer.config import parse_config
    from sift_trainer.model_and_dataset import build_trainer
    from sift_trainer.probe import check_settings

    if flags.run_name is not None:
        raise ValueError(f"--run {flags.run_name} is of a configuration; leave it out")
    argv = [*_argv(_named(flags)), *flags.overrides]
    source, args = parse_config((ModelAndDataset, SiftTrainingArguments), argv).instances
    check_settings(
        args,
        flags.checkpoint,
        flags.criteria,
        flags.fractions,
        flags.batches,
        max_seconds=flags.max_seconds,
    )
    output = flags.output or Path("probe")
    _check_writable(output)
    batches = flags.batches + max(0, min(flags.gradient_batches, flags.batches))
    with TemporaryDirectory() as folder:  # a Trainer makes its output_dir, and leaves it empty here
        args = replace(args, output_dir=folder)
        built = build_trainer(source, args, batches, flags.exits or ())
        result = _probed(built.trainer, flags)
    return replace(result, notes=(*built.notes, *result.notes)), output


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


def _named(flags: argparse.Namespace) -> dict[str, list[str]]:
    """The fields of `ModelAndDataset` that are on the command line."""
    given = {each.name: getattr(flags, each.name) for each in fields(ModelAndDataset)}
    return {
        name: values if isinstance(values, list) else [values]
        for name, values in given.items()
        if values is not None
    }


def _argv(named: dict[str, list[str]]) -> list[str]:
    return [text for name, values in named.items() for text in (f"--{name}", *values)]


def _refuse_both(config: str, named: dict[str, list[str]], but: set[str]) -> None:
    """Refuse what names a model or a dataset beside a configuration, but for some fields."""
    for name, values in named.items():
        if name not in but:
            raise ValueError(
                f"--config {config} and --{name} {' '.join(values)} exclude each other: a "
                "configuration has its own model and data; leave one of the two out"
            )


def _check_writable(folder: Path) -> None:
    """Better before the probe than after."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(
            f"--output {folder} cannot be written: {there} is no folder that is writable; give "
            "another, such as --output probe"
        )


def _experiment_of(file: str) -> "Experiment[Any, Any]":
    """The kind of experiment that knows most of the fields in a configuration."""
    from sift_trainer.config import load_yaml
    from sift_trainer.image_classification import IMAGE_CLASSIFICATION
    from sift_trainer.pretraining import PRETRAINING

    named = set(load_yaml(file))

    def known(experiment: "Experiment[Any, Any]") -> int:
        return len(named & {field.name for kind in experiment.kinds for field in fields(kind)})

    return max((PRETRAINING, IMAGE_CLASSIFICATION), key=known)
