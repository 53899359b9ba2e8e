"""What scoring adds to a step, counted in operations."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sift_trainer.scoring.task import Task
from sift_trainer.selection.rows import num_rows, take_rows
from sift_trainer.sifted_model.facts import ModelPasses
from sift_trainer.sifted_model.no_trace import inference
from sift_trainer.sifted_model.scorer import Scorer

LabelledOnly = Callable[[Mapping[str, Any]], AbstractContextManager[Mapping[str, Any]]]
"""Gives, within its context, the batch to train on."""

COUNTED_ROWS = 2  # a whole batch of logits might not fit into memory


def scoring_share(
    passes: ModelPasses,
    task: Task,
    scorer: Scorer,
    labelled_only: LabelledOnly,
    batch: Mapping[str, Any],
) -> float:
    """Operations of scoring a sample over those of its forward and backward.

    Counted by the samples of a batch on the model's device with the most labels. All processes have
    the mean, and call it together.
    """
    device = next(v.device for v in batch.values() if isinstance(v, Tensor) and v.dim())
    rows = torch.arange(num_rows(batch), device=device)
    if task.labelled(batch):
        rows = task.counts(task.labels(batch)).to(device).argsort(descending=True, stable=True)
    batch = take_rows(batch, rows[:COUNTED_ROWS])
    scoring, whole = FlopCounterMode(display=False), FlopCounterMode(display=False)
    with inference(passes.module):
        with scoring:
            scorer(passes.forward, batch, torch.Generator())
        with labelled_only(batch) as labelled, whole:
            passes.forward(**labelled)
    trained = whole.get_total_flops() * (1 + backward_share(passes.module))
    share = torch.tensor(scoring.get_total_flops() / max(1, trained), device=device)
    return float(reduce(share, "mean"))


def backward_share(model: nn.Module) -> float:
    """Operations of the backward over those of the forward, about: 2 if all parameters are trained,
    1 for the gradients of inputs and 1 for those of weights. Inputs need none before the first
    trained parameter, and weights none that are not trained."""
    # DeepSpeed's partitioned parameters are empty, and know their size.
    sizes = [
        (each.requires_grad, getattr(each, "ds_numel", each.numel())) for each in model.parameters()
    ]
    trained = sum(size for is_trained, size in sizes if is_trained)
    first = next((at for at, (is_trained, _) in enumerate(sizes) if is_trained), len(sizes))
    behind = sum(size for _, size in sizes[first:])
    return (trained + behind) / max(1, sum(size for _, size in sizes))
