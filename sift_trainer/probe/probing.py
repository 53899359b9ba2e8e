"""What would sifting bring this model on this data? Measured on candidate batches, before a run."""

import math
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

from tqdm.auto import tqdm
from transformers import TrainingArguments, set_seed

from sift_trainer.arguments import SiftArguments, sift_arguments
from sift_trainer.measuring import theory
from sift_trainer.measuring.held_out import evaluation_batches
from sift_trainer.probe.checkpoint import adam_scales, weights_file, weights_of
from sift_trainer.probe.choices import Scorers
from sift_trainer.probe.collecting import Collector
from sift_trainer.probe.figures import Notes, attempt
from sift_trainer.probe.recommend import recommend
from sift_trainer.probe.results import ProbeResult
from sift_trainer.run_log import machine
from sift_trainer.selection.rows import Batch, num_rows
from sift_trainer.selection.schedule import num_kept
from sift_trainer.sifted_model.no_trace import untouched
from sift_trainer.trainer import SiftMixin

_FOR_TIMING = 0.25
_ALONE = "a probe is of one process without DeepSpeed and FSDP; start it without a launcher"


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
    """Measure what scores by each exit, criterion and token fraction cost, and what they choose.

    No update is made: the model's weights, modes, gradients and buffers and the global random
    states are afterwards as they were. Candidates come from the trainer's own dataloader, one batch
    at a time. Overlaps are of the largest scores, without a ``sift_skip_top`` of them; descents are
    of the rows that training would choose, by ``sift_selector`` and ``sift_random_share`` too.
    Nothing is compiled.

    Args:
        trainer: made, with ``sift_keep_ratio`` below 1; in one process.
        checkpoint: folder of a checkpoint to measure at, with AdamW's second moments if its
            optimizer has them; None for the model as it is.
        exits: block numbers, -1 for the last; None for all that the model has.
        criteria: None for ``loss`` and ``entropy``, as far as they have a meaning.
        fractions: token fractions, where a sample has several labelled predictions.
        batches: to score, at most.
        gradient_batches: so many of them, the first, on which gradients are taken too; for each a
            held-out batch is drawn, by ``sift_held_out`` of the evaluation set.
        norm_batches: so many of these, the first, on which every single row's gradient is.
        rounds: of timing.
        max_seconds: after which no further batch is begun; no more than a quarter is for timing.

    Raises:
        ValueError: for a trainer, exit, criterion or checkpoint that cannot be probed, and where
            fewer than two batches could be measured.
    """
    _check_trainer(trainer)
    check_settings(trainer.args, checkpoint, criteria, fractions, batches, rounds, max_seconds)
    evaluated = trainer.held_out == "evaluation" and gradient_batches > 0
    begin = time.monotonic()
    notes: Notes = {}
    progress = tqdm(total=batches, desc="probing", disable=trainer.args.disable_tqdm)
    with progress, untouched(trainer.model), weights_of(trainer.model, checkpoint):
        set_seed(trainer.args.seed)
        scales = None
        if checkpoint is not None:
            moments = "AdamW's second moments"
            scales = attempt(notes, moments, lambda: adam_scales(trainer, checkpoint))
        with closing(_candidates(trainer)) as source:
            batch = next(source, None)
            if batch is None:
                raise _too_little_data(0)
            candidates = num_rows(batch)
            scorers = Scorers(trainer, batch, exits, criteria, fractions, notes)
            collector = Collector(trainer, scorers, scales, notes)
            collector.time(batch, rounds, begin + _FOR_TIMING * max_seconds)
            towards = []
            if evaluated:
                rows = trainer.args.eval_batch_size
                towards = evaluation_batches(trainer, rows, gradient_batches)
            while True:
                measured = collector.batches
                held_out = None
                if measured < gradient_batches:
                    held_out = towards[measured % len(towards)] if towards else next(source, None)
                collector.measure(batch, held_out, single_rows=measured < norm_batches)
                progress.update()
                ended_by = f"batches={batches}"
                if collector.batches == batches:
                    break
                ended_by = f"max_seconds={max_seconds:g}"
                if time.monotonic() - begin >= max_seconds:
                    break
                ended_by = "the end of the data"
                batch = next(source, None)
                if batch is None:
                    break
        figures = collector.figures() if collector.batches > 1 else ()
    seconds = time.monotonic() - begin
    if collector.batches < 2 and ended_by.startswith("max_seconds"):
        raise ValueError(
            f"max_seconds={max_seconds:g} was up after {collector.batches} batch, and intervals "
            f"need 2; use {math.ceil(3 * seconds)}, or fewer exits, criteria and fractions"
        )
    if collector.batches < 2:
        raise _too_little_data(collector.batches)
    ratio = collector.loss_ratio()
    return ProbeResult(
        model=type(scorers.sifted.module).__name__,
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
        recommendation=recommend(figures, collector.gradient_batches, evaluated),
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
    """Refuse what `probe` cannot do, before there is a model.

    Args:
        args: of the trainer; the others are those of `probe`.

    Raises:
        ValueError: naming the field, its value and what it accepts.
    """
    ratio = sift_arguments(args).sift_keep_ratio
    if ratio == 1:
        raise ValueError(
            f"sift_keep_ratio={ratio:g} leaves nothing to choose; use one below 1, such as 0.5"
        )
    if args.world_size > 1:
        raise ValueError(f"world_size={args.world_size}: {_ALONE}")
    for name, value, least in (("batches", batches, 2), ("rounds", rounds, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value!r} must be a whole number of {least} or more")
    if not 0 < max_seconds < math.inf:
        raise ValueError(f"max_seconds={max_seconds:g} must be positive, such as 600")
    for criterion in criteria or ():
        SiftArguments(sift_criterion=criterion)
    for fraction in fractions:
        SiftArguments(sift_token_fraction=fraction)
    if checkpoint is not None:
        weights_file(checkpoint)


def _check_trainer(trainer: SiftMixin) -> None:
    if not isinstance(trainer, SiftMixin):
        raise TypeError(
            f"trainer is a {type(trainer).__name__}, which cannot score; give a SiftTrainer"
        )
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        raise ValueError(f"the trainer has DeepSpeed or FSDP: {_ALONE}")


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
        # Accelerate notes which loaders are read from, and forgets those that came to their end. A
        # loader of a subclass need not be one of its own.
        if hasattr(loader, "end"):
            loader.end()


def _too_little_data(batches: int) -> ValueError:
    return ValueError(
        f"the training data has {batches} batches of candidates to measure, and intervals need 2; "
        "use a smaller per_device_train_batch_size, or more data"
    )
