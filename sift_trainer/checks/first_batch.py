"""The first batch of a run is checked, then used to probe the model."""

from typing import Any

from torch import Tensor, nn

from sift_trainer.arguments import (
    SiftArguments,
    columns_of,
    scores_with_model,
    uses_sample_losses,
)
from sift_trainer.checks.batches import check_first_batch, check_mapping
from sift_trainer.processes.sharding import compiled_forward_of, forward_of, unanimous
from sift_trainer.scoring.tasks import task_of
from sift_trainer.selection.rows import Batch, has_rows
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
        model: as it is trained.
        batch: as the training dataloader yields it.
        candidates: samples that a process draws for a batch.

    Raises:
        ValueError: for a batch or a model with which these settings do not work.
    """
    check_mapping(batch)
    columns = columns_of(trainer.sift)
    batch = {name: batch[name] for name in batch if name not in columns}
    accelerator = trainer.accelerator
    bare = accelerator.unwrap_model(model, keep_torch_compile=False)
    labels = batch.get("labels")
    task = task_of(bare, labels if isinstance(labels, Tensor) else None)
    if trainer.label_smoother is not None and (scores_with_model(sift) or uses_sample_losses(sift)):
        task = task.smoothed(trainer.args.label_smoothing_factor)
    if sift.sift_keep_ratio < 1:
        check_first_batch(trainer, batch, sift, candidates, task, mixin)
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
