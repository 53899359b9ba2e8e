"""The first batch of a run is checked, then used to probe the model."""

from typing import Any

from torch import Tensor, nn

from sift_trainer.arguments import SiftArguments, scores_with_model
from sift_trainer.checks.batches import check_first_batch, check_mapping, check_rows_of_samples
from sift_trainer.processes.sharding import compiled_forward_of, forward_of, unanimous
from sift_trainer.scoring.task import Task
from sift_trainer.scoring.tasks import task_of
from sift_trainer.selection.rows import Batch, has_rows, num_rows
from sift_trainer.sifted_model.facts import ModelPasses
from sift_trainer.sifted_model.fields import labels_per_row
from sift_trainer.sifted_model.model import SiftedModel
from sift_trainer.sifted_model.trained_loss import trained_loss_of


def probe_first_batch(
    trainer: Any,
    model: nn.Module,
    batch: Batch,
    sift: SiftArguments,
    candidates: int,
    mixin: type,
) -> SiftedModel:
    """Find out how the model can be scored, from a first batch; the trainer is not changed.

    Args:
        trainer: constructed, of a class with ``mixin``.
        model: as it is trained.
        batch: as the training dataloader yields it.
        sift: settings of the sifting.
        candidates: samples that a process draws for a batch.
        mixin: the class that makes the trainer sift.

    Raises:
        ValueError: for a batch or a model with which these settings do not work.
    """
    check_mapping(batch)
    accelerator = trainer.accelerator
    bare = accelerator.unwrap_model(model, keep_torch_compile=False)
    task = _task(trainer, bare, batch, sift)
    if sift.sift_keep_ratio < 1:
        _check(trainer, batch, sift, task, candidates, mixin)
    labelled = task.labelled(batch) and has_rows(batch)
    forward = forward_of(accelerator, model)
    called = model if trainer.is_fsdp_enabled else bare
    with accelerator.autocast():
        return SiftedModel.probed(
            ModelPasses(bare, forward, compiled_forward_of(accelerator, model), model),
            trainer._prepare_inputs(batch) if labelled else None,
            sift,
            trained_loss_of(trainer, called, forward, mixin),
            task=task,
            label_names=trainer.label_names,
            labels_per_row=labels_per_row(trainer.data_collator, batch),
            all_agree=unanimous(accelerator),
        )


def _task(trainer: Any, model: nn.Module, batch: Batch, sift: SiftArguments) -> Task:
    """The task of the model, with the label smoothing of the Trainer."""
    labels = batch.get("labels")
    task = task_of(model, labels if isinstance(labels, Tensor) else None)
    if trainer.label_smoother is None or not scores_with_model(sift):
        return task
    return task.smoothed(trainer.args.label_smoothing_factor)


def _check(
    trainer: Any, batch: Batch, sift: SiftArguments, task: Task, candidates: int, mixin: type
) -> None:
    rows = num_rows(batch)
    # A run that resumes at the last batch of an epoch starts with a batch that may be short.
    at_end = trainer.accelerator.gradient_state.end_of_dataloader
    expected = rows if trainer.state.global_step > 0 and at_end else candidates
    check_rows_of_samples(type(trainer), rows, expected, mixin)
    check_first_batch(batch, rows, expected, sift, task)
