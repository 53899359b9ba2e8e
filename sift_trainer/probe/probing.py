"""What would sifting bring this model on this data? Measured on batches of candidates."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from itertools import chain, cycle
from pathlib import Path

from tqdm.auto import tqdm
from transformers import set_seed

from sift_trainer.measuring import theory
from sift_trainer.measuring.held_out import evaluation_batches
from sift_trainer.measuring.machine import machine
from sift_trainer.probe.checkpoint import adam_scales, weights_of
from sift_trainer.probe.collecting import Collector
from sift_trainer.probe.recommend import recommend
from sift_trainer.probe.results import ProbeResult
from sift_trainer.probe.scorers import Scorers
from sift_trainer.selection.rows import Batch, num_rows
from sift_trainer.selection.schedule import num_kept
from sift_trainer.sifted_model.no_trace import untouched
from sift_trainer.trainer import SiftMixin

_FOR_TIMING = 0.25  # largest share of the time limit
_MORE = "use more data or a smaller per_device_train_batch_size"


def probe(
    trainer: SiftMixin,
    checkpoint: str | Path | None = None,
    exits: Sequence[int] | None = None,
    criteria: Sequence[str] | None = None,
    fractions: Sequence[float] = (1.0, 0.25),
    batches: int = 200,
    gradient_batches: int = 50,
    rounds: int = 7,
    max_seconds: float = 600.0,
) -> ProbeResult:
    """Measure the cost of scores by each exit, criterion and token fraction, and what they choose.

    Weights, modes, gradients and buffers of the model and the global random states are restored.
    Overlaps are of the largest scores. Descents are of the rows that training would choose, with
    ``sift_selector`` and ``sift_random_share``.

    Args:
        trainer: with ``sift_keep_ratio`` below 1, in one process.
        checkpoint: folder of a checkpoint whose weights are measured, with AdamW's second moments
            if it has them; None for the model as it is.
        exits: block numbers, -1 for the last; None for all.
        criteria: None for ``loss`` and ``entropy``, as far as they work for the model.
        fractions: token fractions, for samples with several labelled predictions.
        batches: largest number of batches to score.
        gradient_batches: on how many of them gradients are taken too, see ``sift_held_out``.
        rounds: of timing.
        max_seconds: no batch begins later. Timing takes at most a quarter of it.

    Raises:
        ValueError: for a trainer, exit, criterion or checkpoint that cannot be probed, and for
            fewer than two measured batches.
    """
    _check(trainer)
    towards_evaluation = trainer.held_out == "evaluation" and gradient_batches > 0
    begin = time.monotonic()
    notes: list[str] = []
    progress = tqdm(total=batches, desc="probing", disable=trainer.args.disable_tqdm)
    with (
        progress,
        untouched(trainer.model),
        nullcontext() if checkpoint is None else weights_of(trainer.model, checkpoint),
        closing(_candidates(trainer)) as source,
    ):
        set_seed(trainer.args.seed)
        scales = None
        if checkpoint is not None:
            try:
                scales = adam_scales(trainer, checkpoint)
            except ValueError as error:
                notes.append(f"AdamW's second moments: {error}")
        first = next(source, None)
        if first is None:
            raise ValueError(f"the training data has no batch of candidates; {_MORE}")
        candidates = num_rows(first)
        scorers = Scorers(trainer, first, exits, criteria, fractions, notes)
        collector = Collector(trainer, scorers, scales)
        collector.time(first, rounds, begin + _FOR_TIMING * max_seconds)
        held_out_source: Iterator[Batch] = source
        if towards_evaluation:
            rows = trainer.args.eval_batch_size
            held_out_source = cycle(evaluation_batches(trainer, rows, gradient_batches))
        for batch in chain([first], source):
            with_gradients = collector.batches < gradient_batches
            collector.measure(batch, next(held_out_source, None) if with_gradients else None)
            progress.update()
            if collector.batches >= batches or time.monotonic() - begin >= max_seconds:
                break
    if collector.batches < 2:
        raise ValueError(
            f"max_seconds={max_seconds:g} and the data were enough for 1 batch, and intervals need "
            f"2; {_MORE}, or a larger max_seconds"
        )
    if any(map(scorers.learns, scorers.choices)):
        notes.append(
            f"learned scores: from the exact losses of {collector.batches} batches, compared with "
            "exact losses in the last half of them; descents are of the first ones"
        )
    figures = tuple(map(collector.figures, scorers.choices))
    ratio = collector.loss_ratio()
    return ProbeResult(
        model=type(scorers.passes.model).__name__,
        checkpoint=None if checkpoint is None else str(checkpoint),
        candidates=candidates,
        kept=num_kept(candidates, trainer.sift.sift_keep_ratio),
        batches=collector.batches,
        gradient_batches=collector.gradient_batches,
        rounds=collector.rounds,
        held_out=trainer.held_out,
        by_adam=scales is not None,
        seconds=time.monotonic() - begin,
        step_seconds=collector.step_seconds,
        loss_ratio=ratio,
        sigma_max=None if ratio is None else theory.sigma_max(ratio),
        figures=figures,
        notes=tuple(notes),
        recommendation=recommend(figures, collector.gradient_batches, towards_evaluation),
        machine=machine(),
    )


def _check(trainer: SiftMixin) -> None:
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled or trainer.args.world_size > 1:
        raise ValueError("a probe needs one process; start it without a launcher and DeepSpeed")
    if trainer.sift.sift_keep_ratio == 1:
        raise ValueError("sift_keep_ratio=1 leaves nothing to choose; use one below 1, such as 0.5")


def _candidates(trainer: SiftMixin) -> Generator[Batch, None, None]:
    loader = trainer.get_train_dataloader()
    rows: int | None = None
    try:
        for batch in loader:
            rows = rows or num_rows(batch)
            if num_rows(batch) == rows:  # the last one may be short
                yield batch
    finally:
        # Accelerate keeps a list of active loaders, and removes only those that were exhausted. A
        # subclass may have a loader that is not Accelerate's.
        if hasattr(loader, "end"):
            loader.end()
