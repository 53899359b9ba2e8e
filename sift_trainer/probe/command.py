"""``sift-trainer probe``: would sifting pay for a configuration, or for a model and a dataset?"""

import argparse
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import HfArgumentParser

from sift_trainer.arguments import SiftTrainingArguments
from sift_trainer.probe import ProbeResult, probe, write_report
from sift_trainer.probe.from_names.building import ModelAndDataset, build_trainer
from sift_trainer.probe.report import as_markdown
from sift_trainer.trainer import SiftTrainer

# By name: configurations belong to the paper's experiments, which no other part imports.
OF_A_CONFIGURATION = "sift_trainer.reproduction.probe_configuration"


def add_to(commands: Any) -> None:
    """Add the subcommand to what ``add_subparsers`` of a parser returned."""
    named = " ".join(f"--{each.name}" for each in fields(ModelAndDataset))
    parser = commands.add_parser(
        "probe",
        help="whether sifting would pay, and by which choice, before a run",
        usage="%(prog)s (--config FILE | --model MODEL --dataset DATA) [options] [--FIELD VALUE]",
        description="Measure on a few hundred batches of candidates what scoring costs and what "
        "the chosen rows bring, for every exit, criterion and token fraction. Nothing is trained.",
        epilog=f"Of a model and a dataset: {named}. Any field of the configuration or of "
        "SiftTrainingArguments, such as --sift_keep_ratio 0.25, can be a flag too.",
        allow_abbrev=False,
    )
    options: dict[str, dict[str, Any]] = {
        "config": {"help": "of the runs, as YAML"},
        "run": {"dest": "run_name", "help": "which of them; default: the first that sifts"},
        "checkpoint": {"help": "folder with weights to probe at, and AdamW's second moments"},
        "exits": {"type": int, "nargs": "+", "help": "exit layers, -1: last; default: all"},
        "criteria": {"nargs": "+", "help": "default: predicted_loss loss entropy"},
        "fractions": {"type": float, "nargs": "+", "default": [1.0, 0.25], "help": "of the tokens"},
        "batches": {"type": int, "default": 200, "help": "default: 200"},
        "gradient_batches": {"type": int, "default": 50, "help": "of them; default: 50"},
        "max_seconds": {"type": float, "default": 600.0, "help": "no batch begins later"},
        "output": {"type": Path, "help": "folder of the report; default: probe/"},
    }
    for name, how in options.items():
        parser.add_argument(f"--{name}", metavar=name.upper(), **how)
    parser.set_defaults(run=run, takes_fields=True)


def run(flags: argparse.Namespace) -> None:
    """Probe, then print and write the result."""
    if flags.config is None:
        result, output = _model_and_dataset(flags)
    else:
        result, output = import_module(OF_A_CONFIGURATION).probe_configuration(flags)
    print(as_markdown(result))
    files = write_report(result, flags.output or output)
    print(f"written: {', '.join(map(str, files))}\n\n{result.recommendation}")


def _model_and_dataset(flags: argparse.Namespace) -> tuple[ProbeResult, Path]:
    """The result for a model and a dataset, and the default folder for its report."""
    if flags.run_name is not None:
        raise ValueError(f"--run {flags.run_name} is of a configuration; add --config FILE")
    parser = HfArgumentParser(
        [ModelAndDataset, SiftTrainingArguments],
        prog="sift-trainer probe",
        usage="%(prog)s --model MODEL --dataset DATA [options] [--FIELD VALUE]",
        allow_abbrev=False,
    )
    source, args = parser.parse_args_into_dataclasses(flags.fields)
    batches = flags.batches + max(0, min(flags.gradient_batches, flags.batches))
    with TemporaryDirectory() as folder:  # a Trainer creates its output_dir
        trainer, notes = build_trainer(source, replace(args, output_dir=folder), batches)
        result = probe_with(trainer, flags)
    return replace(result, notes=(*notes, *result.notes)), Path("probe")


def probe_with(trainer: SiftTrainer, flags: argparse.Namespace) -> ProbeResult:
    """The result for a trainer, by the flags of the command."""
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
