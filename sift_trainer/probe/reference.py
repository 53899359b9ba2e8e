"""Losses of a reference model, for `sift_reference_column`; ``sift-trainer reference-loss``."""

import argparse
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import HfArgumentParser
from transformers.trainer_utils import has_length

from sift_trainer.arguments import SiftArguments, SiftTrainingArguments
from sift_trainer.measuring.passes import Passes
from sift_trainer.probe.from_names.building import (
    CAUSAL_LM,
    MASKED_LM,
    ModelAndDataset,
    build_trainer,
)
from sift_trainer.probe.from_names.rows import open_dataset
from sift_trainer.trainer import SiftMixin

ALL_BATCHES = 10**9  # more than any dataset has


def reference_losses(trainer: SiftMixin, data: Any) -> list[float]:
    """The loss of each sample of ``data`` by the trainer's model, in nats, in evaluation mode.

    With a model that was trained on other data they are the irreducible losses of RHO-LOSS
    (Mindermann et al., ICML 2022): ``data.add_column("reference_loss", reference_losses(...))``.

    Raises:
        ValueError: for data without a length, more than one process, and samples without a loss.
    """
    if trainer.args.world_size > 1 or not has_length(data):
        raise ValueError(
            f"reference losses of {type(data).__name__} in {trainer.args.world_size} processes: "
            "they need data with a length and one process; start it without a launcher"
        )
    exact = SiftArguments(sift_criterion="loss", sift_exit_layer=-1, sift_selector="top_k")
    collator = trainer._get_collator_with_removed_columns(trainer.data_collator)
    trainer._move_model_to_device(trainer.model, trainer.args.device)
    found: list[torch.Tensor] = []
    passes = None
    for batch in DataLoader(data, trainer._num_candidates(), collate_fn=collator):
        if passes is None:
            passes = Passes(trainer, trainer.sifted_model_of(trainer.model, batch, exact))
            scorer = passes.sifted.scorer_for(exact)
        rows = trainer._prepare_inputs(batch)
        found.append(passes.score(scorer, rows, torch.Generator()).cpu())
    losses = torch.cat(found)
    known = losses.isfinite() & (losses > torch.finfo(torch.float32).min)
    if not known.all():
        row = int((~known).nonzero()[0])
        raise ValueError(
            f"sample {row} has no finite loss (found {losses[row]:g}); leave such samples out, or "
            "give them a label"
        )
    return [float(loss) for loss in losses]


def add_to(commands: Any) -> None:
    """Add the subcommand to what ``add_subparsers`` of a parser returned."""
    named = " ".join(f"--{each.name}" for each in fields(ModelAndDataset))
    parser = commands.add_parser(
        "reference-loss",
        help="a column of losses by a reference model, for sift_reference_column",
        usage="%(prog)s --model MODEL --dataset DATA --output FOLDER [options]",
        description="Write the dataset with a column of the losses that a model has on it. The "
        "model should be trained on other data of the same kind.",
        epilog=f"Of a model and a dataset: {named}. A causal language model has blocks of tokens "
        "for samples, and the new dataset has these.",
        allow_abbrev=False,
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the new dataset")
    parser.add_argument("--column", default="reference_loss", help="default: reference_loss")
    parser.set_defaults(run=run, takes_fields=True)


def run(flags: argparse.Namespace) -> None:
    """Compute the losses, then write the dataset with their column."""
    if flags.output.exists():
        raise ValueError(f"output={str(flags.output)!r} exists; name a new folder")
    parser = HfArgumentParser(
        [ModelAndDataset, SiftTrainingArguments], prog="sift-trainer reference-loss"
    )
    source, args = parser.parse_args_into_dataclasses(flags.fields)
    data = open_dataset(source.dataset, source.split, source.dataset_config)
    if flags.column in data.column_names:
        raise ValueError(f"column={flags.column!r} is in the dataset; name another one")
    with TemporaryDirectory() as folder:  # a Trainer creates its output_dir
        trainer, notes = build_trainer(source, replace(args, output_dir=folder), ALL_BATCHES)
        if f"task: {MASKED_LM}" in notes:
            raise ValueError(
                f"task={MASKED_LM!r} draws other masks in each step, so a sample has no one loss; "
                "mask the dataset, and call reference_losses of sift_trainer.probe with it"
            )
        rows = trainer.train_dataset
        losses = reference_losses(trainer, rows)
    if f"task: {CAUSAL_LM}" in notes:
        data = rows  # the samples are blocks of joined texts
    data.add_column(flags.column, losses).save_to_disk(str(flags.output))
    print("\n".join(notes))
    print(
        f"written: {flags.output} with {len(losses):,} losses, mean {sum(losses) / len(losses):.4f}"
        f"; train on it with sift_reference_column={flags.column!r}"
    )
