"""What a model does with its labels, found out by calling it on a few rows of the first batch.

`transformers.Trainer` trusts a signature: a forward with ``**kwargs`` is taken to divide its loss
by ``num_items_in_batch``. BERT's heads accept the count and ignore it, and their loss and gradient
come out too large by accumulation steps times processes (transformers issue 47688). So the model is
called twice with different counts, and counts as dividing only if its loss changes. Similar calls
show whether it shifts its labels, whether its head can be given labelled positions only, and
whether the losses of single samples make its own.
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
from sift_trainer.selection.rows import take_rows

Forward = Callable[..., Any]

Gather = Callable[[ScoredPositions, bool], AbstractContextManager[None]]
"""``(N positions, shifted)`` -> a context in which logits are (1, M, V), those that
`gathered_labels` are the labels of."""

_REFUSALS = (RuntimeError, ValueError, IndexError, TypeError)
"""What models raise for labels that they were not written for."""


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
    """A few rows of ``batch`` to call the model with: those with the most labels, by ``counts``
    (B,), whose loss is finite.

    All answers would be the same for a loss that is not. None if there are no such rows, or, by
    ``all_agree``, not on every process.
    """
    order = counts.argsort(descending=True, stable=True)
    for few in torch.split(order, rows):
        probe = take_rows(batch, few)
        loss = loss_of(forward(**probe))
        if all_agree(loss is None or bool(loss.isfinite())):
            return probe
    return None


def runs_with(forward: Forward, inputs: Mapping[str, Any]) -> bool:
    """Whether the model runs on these inputs. Many models run without labels, and a signature with
    ``labels=None`` does not tell which."""
    try:
        forward(**inputs)
    except (*_REFUSALS, AttributeError, KeyError):  # ``labels.view``, ``batch["labels"]``
        return False
    return True


def divides_by_count(forward: Forward, batch: Mapping[str, Any]) -> bool:
    """Whether the model's loss depends on ``num_items_in_batch``.

    Also true where the model returns no loss: then there is nothing to correct.
    """
    count = label_counts(batch["labels"]).sum().clamp(min=1)
    once = loss_of(forward(**batch, num_items_in_batch=count))
    twice = loss_of(forward(**batch, num_items_in_batch=2 * count))
    if once is None or twice is None:
        return True
    return not torch.allclose(once, twice, rtol=1e-3)


def shifts_labels(forward: Forward, batch: Mapping[str, Any]) -> bool:
    """Whether the loss compares prediction t with label t + 1, as causal models do.

    Then no prediction is compared with the first label, and a batch in which nothing else is
    labelled has the loss of a batch without labels. False where the model returns no loss, or
    refuses such labels.
    """
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
    forward: Forward,
    batch: Mapping[str, Any],
    gather: Gather,
    aligned_labels: Tensor,
    shifted: bool,
) -> str | None:
    """Why a model cannot be given labelled positions only, by ``gather``; None if it can.

    Its logits at the labelled positions, and its loss, must be those of the whole model.
    """
    if not shifted and bool((aligned_labels != IGNORE_INDEX).all()):
        # With every position labelled there is nothing to leave out, and hardly a model would fail.
        aligned_labels = aligned_labels.clone()
        aligned_labels.view(-1)[1::2] = IGNORE_INDEX
        batch = {**batch, "labels": aligned_labels}
    positions = scored_positions(aligned_labels)
    if not len(positions.flat):
        return "the first batch has no labelled position to compare at"
    labels = gathered_labels(positions, shifted)
    dense = forward(**batch)
    try:
        with gather(positions, shifted):
            sparse = forward(**{**batch, "labels": labels})
        expected = logits_of(dense, "the model").flatten(0, -2)[positions.flat]
        rounding = torch.finfo(expected.dtype).eps
        found = logits_of(sparse, "the model").flatten(0, -2)[: len(expected)].float()
        expected = expected.float()
        # Rounding differs with the rows in a product; a misplaced row differs by far more.
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
    """Why a loss made of per-sample losses is not the one that is trained on; None if it is.

    Args:
        scored: the per-sample losses at full depth, weighted as the model weights samples.
        trained: the loss of the same rows that training would take.
        outputs: what the model returned for them.
    """
    if not bool(trained.isfinite()):
        return None  # nothing to compare with
    rounding = torch.finfo(logits_of(outputs, "the model").dtype).eps
    # Within this, a difference moves no sample far in the ranking; passes differ by rounding.
    if torch.allclose(scored.float(), trained.float(), rtol=max(1e-2, 8 * rounding), atol=1e-4):
        return None
    return f"their mean over the first batch's rows is {scored:.6g} for {trained:.6g}"
