"""What a model does with its labels, found by calling it on a few rows of the first batch.

`transformers.Trainer` goes by the signature: it assumes that a forward with ``**kwargs`` divides
its loss by ``num_items_in_batch``. BERT's heads accept the count and ignore it, so their loss and
gradient are too large by accumulation steps times processes (transformers issue 47688).
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from sift_trainer.early_exit.adapter import logits_of
from sift_trainer.early_exit.labelled_head import gathered_labels
from sift_trainer.scoring.positions import (
    IGNORE_INDEX,
    ScoredPositions,
    label_counts,
    scored_positions,
)
from sift_trainer.selection.padding import ends_of, with_padding, without_padding
from sift_trainer.selection.rows import take_rows

Forward = Callable[..., Any]

Gather = Callable[[ScoredPositions, bool], AbstractContextManager[None]]
"""``(positions, shifted)`` -> a context in which logits (1, M, V) match `gathered_labels`."""

_REFUSALS = (RuntimeError, ValueError, IndexError, TypeError)
"""Errors that models raise for labels that they do not support."""


def loss_of(outputs: Any) -> Tensor | None:
    """The loss in what a model returned, as the Trainer reads it."""
    if isinstance(outputs, Tensor):
        return None
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs[0]
    return loss if isinstance(loss, Tensor) and loss.dim() == 0 else None


def rows_with_finite_loss(
    forward: Forward,
    batch: Mapping[str, Any],
    counts: Tensor,
    rows: int = 2,
    all_agree: Callable[[bool], bool] = bool,
) -> dict[str, Any] | None:
    """A few rows of ``batch`` with a finite loss, to call the model with; None if there are none on
    some process (``all_agree``). Rows with the most labels, by ``counts`` (B,), come first."""
    order = counts.argsort(descending=True, stable=True)
    for few in torch.split(order, rows):
        probe = take_rows(batch, few)
        loss = loss_of(forward(**probe))
        if all_agree(loss is None or bool(loss.isfinite())):
            return probe
    return None


def ignores_padding(forward: Forward, batch: Mapping[str, Any]) -> bool:
    """Whether padding on the right leaves the predictions for a batch of tokens as they are, by its
    shortest samples; false for other batches. Some models mix padding into their tokens."""
    ends = ends_of(batch)
    if ends is None:
        return False
    padded = take_rows(batch, ends.argsort(stable=True)[:4])
    narrow = without_padding(padded)
    width = narrow["attention_mask"].shape[1]
    if width == padded["attention_mask"].shape[1]:
        padded = with_padding(narrow)
    try:
        found = [logits_of(forward(**each), "the model").float() for each in (narrow, padded)]
    except (*_REFUSALS, AttributeError, KeyError):
        return False
    if found[1].dim() > 2:
        found[1] = found[1][:, :width]
    if found[0].shape != found[1].shape:
        return False
    used = torch.ones(found[0].shape[:-1], dtype=torch.bool, device=found[0].device)
    if found[0].dim() > 2 and found[0].shape[1] == width:
        used = used & (narrow["attention_mask"] != 0)
    before, after = (each[used].reshape(-1, each.shape[-1]) for each in found)
    return bool((before - after).abs().max() <= 0.05 * before.std(dim=0).mean() + 1e-6)


def runs_with(forward: Forward, inputs: Mapping[str, Any]) -> bool:
    """Whether the model runs on these inputs; its signature does not tell."""
    try:
        forward(**inputs)
    except (*_REFUSALS, AttributeError, KeyError):  # ``labels.view``, ``batch["labels"]``
        return False
    return True


def divides_by_count(forward: Forward, batch: Mapping[str, Any]) -> bool:
    """Whether the model's loss depends on ``num_items_in_batch``; true if it returns no loss."""
    count = label_counts(batch["labels"]).sum().clamp(min=1)
    once = loss_of(forward(**batch, num_items_in_batch=count))
    twice = loss_of(forward(**batch, num_items_in_batch=2 * count))
    if once is None or twice is None:
        return True
    return not torch.allclose(once, twice, rtol=1e-3)


def shifts_labels(forward: Forward, batch: Mapping[str, Any]) -> bool:
    """Whether the loss compares prediction t with label t + 1, as causal models do: then a batch
    with only the first label has the loss of a batch without labels."""
    labels = batch["labels"]
    if labels.dim() < 2 or labels.is_floating_point():
        return False
    nothing = torch.full_like(labels, IGNORE_INDEX)
    first = nothing.clone()
    first[:, 0] = labels[labels != IGNORE_INDEX][0] if (labels != IGNORE_INDEX).any() else 0
    try:
        losses = [loss_of(forward(**{**batch, "labels": each})) for each in (nothing, first)]
    except _REFUSALS:
        return False
    if losses[0] is None or losses[1] is None:
        return False
    return torch.allclose(losses[0], losses[1], equal_nan=True)


def why_not_gathered(
    forward: Forward, batch: Mapping[str, Any], gather: Gather, aligned: Tensor, shifted: bool
) -> str | None:
    """Why a model cannot get labelled positions only, through ``gather``; None if it can: its
    logits there, and its loss, are those of the whole model."""
    if not shifted and bool((aligned != IGNORE_INDEX).all()):
        # If every position is labelled, none is skipped, and a wrong model would pass the test.
        aligned = aligned.clone()
        aligned.view(-1)[1::2] = IGNORE_INDEX
        batch = {**batch, "labels": aligned}
    positions = scored_positions(aligned)
    labels = gathered_labels(positions, shifted)
    dense = forward(**batch)
    try:
        with gather(positions, shifted):
            sparse = forward(**{**batch, "labels": labels})
        expected = logits_of(dense, "the model").flatten(0, -2)[positions.flat]
        rounding = torch.finfo(expected.dtype).eps
        found = logits_of(sparse, "the model").flatten(0, -2)[: len(expected)].float()
        expected = expected.float()
        # Rounding depends on the number of rows in a product; a wrong row differs by far more.
        same = bool((expected - found).abs().max() <= 0.05 * expected.std() + 1e-6)
    except _REFUSALS as error:
        return f"{type(error).__name__}: {error}"
    losses = loss_of(dense), loss_of(sparse)
    if not same:
        return "its logits at the labelled positions differ from the dense head's"
    if losses[0] is None or losses[1] is None:
        return "it returns no loss of its own"
    if not torch.allclose(losses[0], losses[1], rtol=max(1e-3, rounding)):
        return f"its loss differs from the dense head's ({losses[1]:.6g} for {losses[0]:.6g})"
    return None


def why_other_loss(scored: Tensor, trained: Tensor, outputs: Any) -> str | None:
    """Why ``scored``, made of per-sample losses, is not the ``trained`` loss of the same rows, for
    which the model returned ``outputs``; None if it is, or if ``trained`` is not finite."""
    if not bool(trained.isfinite()):
        return None
    rounding = torch.finfo(logits_of(outputs, "the model").dtype).eps
    # Passes differ by rounding. A difference below this hardly changes the ranking of samples.
    if torch.allclose(scored.float(), trained.float(), rtol=max(1e-2, 8 * rounding), atol=1e-4):
        return None
    return f"their mean over the first batch's rows is {scored:.6g} for {trained:.6g}"
