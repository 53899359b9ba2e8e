"""What would sifting bring this model on this data? Measured on batches of candidates."""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import cycle
from pathlib import Path

from tqdm.auto import tqdm
from transformers import TrainingArguments, set_seed

from sift_trainer.arguments import SiftArguments, sift_arguments
from sift_trainer.measuring import theory
from sift_trainer.measuring.agreement import Notes, number_or_note
from sift_trainer.measuring.held_out import evaluation_batches
from sift_trainer.measuring.machine import machine
from sift_trainer.probe.checkpoint import adam_scales, weights_file, weights_of
from sift_trainer.probe.collecting import Collector
from sift_trainer.probe.recommend import recommend
from sift_trainer.probe.results import ProbeResult
from sift_trainer.probe.scorers import Scorers
from sift_trainer.selection.rows import Batch, num_rows
from sift_trainer.selection.schedule import num_kept
from sift_trainer.sifted_model.no_trace import untouched
from sift_trainer.trainer import SiftMixin

_FOR_TIMING = 0.25  # largest share of the time limit
_MORE = "use more data, a smaller per_device_train_batch_size"


def probe(
    trainer: SiftMixin,
    checkpoint: str | Path | None = None,
    exits: Sequence[int] | None = None,
    criteria: Sequence[str] | None = None,
    fractions: Sequence[float] = (1.0, 0.25),
    batches: int = 200,
    gradient_batches: int = 50,
    norm_batches: int = 5,
    rounds: int = 7,
    max_seconds: float = 600.0,
) -> ProbeResult:
    """Measure the cost of scores by each exit, criterion and token fraction, and what they choose.

    No update is made. Weights, modes, gradients and buffers of the model and the global random
    states are restored. Candidates come from the trainer's own dataloader. Overlaps are of the
    largest scores. Descents are of the rows that training would choose, with ``sift_selector`` and
    ``sift_random_share``. Nothing is compiled.

    Args:
        trainer: with ``sift_keep_ratio`` below 1, in one process.
        checkpoint: folder of a checkpoint whose weights are measured, with AdamW's second moments
            if it has them; None for the model as it is.
        exits: block numbers, -1 for the last; None for all.
        criteria: None for ``loss`` and ``entropy``, as far as they work for the model.
        fractions: token fractions, for samples with several labelled predictions.
        batches: largest number of batches to score.
        gradient_batches: on how many of them gradients are taken too. For each one, a held-out
            batch is drawn, see ``sift_held_out``.
        norm_batches: on how many of these the gradient of every single row is taken.
        rounds: of timing.
        max_seconds: no batch begins later. Timing takes at most a quarter of it.

    Raises:
        TypeError: for a trainer without `SiftMixin`.
        ValueError: for a trainer, exit, criterion or checkpoint that cannot be probed, and for
            fewer than two measured batches.
    """
    if not isinstance(trainer, SiftMixin):
        raise TypeError(
            f"trainer is a {type(trainer).__name__}, which cannot score; give a SiftTrainer"
        )
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        raise ValueError("a probe needs whole gradients; start it without DeepSpeed and FSDP")
    check_settings(trainer.args, checkpoint, criteria, fractions, batches, rounds, max_seconds)
    towards_evaluation = trainer.held_out == "evaluation" and gradient_batches > 0
    begin = time.monotonic()
    notes: Notes = {}
    progress = tqdm(total=batches, desc="probing", disable=trainer.args.disable_tqdm)
    with (
        progress,
        untouched(trainer.model),
        weights_of(trainer.model, checkpoint),
        closing(_candidates(trainer)) as source,
    ):
        set_seed(trainer.args.seed)
        scales = None
        if checkpoint is not None:
            name = "AdamW's second moments"
            scales = number_or_note(notes, name, lambda: adam_scales(trainer, checkpoint))
        batch = next(source, None)
        if batch is None:
            raise ValueError(f"the training data has no batch of candidates; {_MORE}")
        candidates = num_rows(batch)
        scorers = Scorers(trainer, batch, exits, criteria, fractions, notes)
        collector = Collector(trainer, scorers, scales, notes)
        collector.time(batch, rounds, begin + _FOR_TIMING * max_seconds)
        held_out_source: Iterator[Batch] = source
        if towards_evaluation:
            rows = trainer.args.eval_batch_size
            held_out_source = cycle(evaluation_batches(trainer, rows, gradient_batches))
        ended_by = f"batches={batches}"
        while batch is not None:
            number = collector.batches
            held_out = next(held_out_source, None) if number < gradient_batches else None
            collector.measure(batch, held_out, single_rows=number < norm_batches)
            progress.update()
            if collector.batches == batches:
                break
            if time.monotonic() - begin >= max_seconds:
                ended_by = f"max_seconds={max_seconds:g}"
                break
            batch = next(source, None)
        else:
            ended_by = "the end of the data"
        figures = collector.figures() if collector.batches > 1 else ()
    seconds = time.monotonic() - begin
    if not figures:
        raise ValueError(
            f"intervals need 2 batches, and {ended_by} ended the probe after 1, in {seconds:.1f} "
            f"s; {_MORE}, or max_seconds={math.ceil(3 * seconds)}"
        )
    ratio = collector.loss_ratio()
    return ProbeResult(
        model=type(scorers.passes.model).__name__,
        checkpoint=None if checkpoint is None else str(checkpoint),
        candidates=candidates,
        kept=num_kept(candidates, trainer.sift.sift_keep_ratio),
        batches=collector.batches,
        gradient_batches=collector.gradient_batches,
        norm_batches=collector.norm_batches,
        rounds=collector.rounds,
        seconds=seconds,
        ended_by=ended_by,
        step_seconds=collector.step_seconds,
        loss_ratio=ratio,
        sigma_max=None if ratio is None else theory.sigma_max(ratio),
        figures=figures,
        notes=tuple(f"{name}: {why}" for name, why in notes.items()),
        held_out=trainer.held_out,
        recommendation=recommend(figures, collector.gradient_batches, towards_evaluation),
        machine=machine(),
    )


def check_settings(
    args: TrainingArguments,
    checkpoint: str | Path | None = None,
    criteria: Sequence[str] | None = None,
    fractions: Sequence[float] = (1.0,),
    batches: int = 200,
    rounds: int = 1,
    max_seconds: float = 600.0,
) -> None:
    """Check the arguments of `probe` before there is a model.

    Args:
        args: of the trainer. The others are those of `probe`.

    Raises:
        ValueError: naming the argument, its value and one that works.
    """
    ratio = sift_arguments(args).sift_keep_ratio
    if ratio == 1:
        raise ValueError(
            f"sift_keep_ratio={ratio:g} leaves nothing to choose; use one below 1, such as 0.5"
        )
    if args.world_size > 1:
        raise ValueError(
            f"world_size={args.world_size}: a probe has one process; start it without a launcher"
        )
    for name, value, least in (("batches", batches, 2), ("rounds", rounds, 1)):
        if value < least:
            raise ValueError(f"{name}={value!r} must be {least} or more")
    if not 0 < max_seconds < math.inf:
        raise ValueError(f"max_seconds={max_seconds:g} must be positive, such as 600")
    for criterion in criteria or ():
        SiftArguments(sift_criterion=criterion)
    for fraction in fractions:
        SiftArguments(sift_token_fraction=fraction)
    if checkpoint is not None:
        weights_file(checkpoint)


def _candidates(trainer: SiftMixin) -> Generator[Batch, None, None]:
    """Batches of one pass over the data, without a short last one."""
    loader = trainer.get_train_dataloader()
    rows: int | None = None
    try:
        for batch in loader:
            rows = rows or num_rows(batch)
            if num_rows(batch) == rows:
                yield batch
    finally:
        # Accelerate keeps a list of active loaders, and removes only those that were exhausted. A
        # subclass may have a loader that is not Accelerate's.
        if hasattr(loader, "end"):
            loader.end()
