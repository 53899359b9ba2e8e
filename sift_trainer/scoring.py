"""How hard is a sample? Per-sample scores from logits and labels.

A criterion turns the logits of single predictions into values; a sample's score is the mean of the
values at its scored positions (sections 6 and 7.1 of the paper: loss-based and entropy-based SIFT).
"""

import torch
from torch import Tensor
from torch.nn import functional

from sift_trainer.logit_pass import Criterion, criterion_values
from sift_trainer.positions import IGNORE_INDEX, ScoredPositions, scored_positions

UNLABELLED = torch.finfo(torch.float32).min
"""Score of a sample without a scored position: below every finite score, above a non-finite one."""


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each prediction, in nats: logits (N, C), class ids (N,) -> (N,)."""
    return functional.cross_entropy(
        logits.float(), targets, reduction="none", label_smoothing=label_smoothing
    )


def entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Shannon entropy of each predicted distribution, in nats: logits (N, C) -> (N,)."""
    # Not log-partition minus mean logit, which cancels. Clamped, as 0 * -inf is NaN where a class
    # has the logit -inf.
    log_probabilities = torch.log_softmax(logits.float(), dim=-1).clamp(min=-1e4)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=-1)


CRITERIA: dict[str, Criterion | None] = {
    "loss": cross_entropy,
    "entropy": entropy,
    "random": None,  # the control: no pass through the model at all
}


def register_criterion(name: str, criterion: Criterion) -> None:
    """Make ``criterion`` available as ``sift_criterion=name``.

    Raises:
        ValueError: if the name is taken.
    """
    if name in CRITERIA:
        raise ValueError(f"criterion name {name!r} is taken; choose one not in {sorted(CRITERIA)}")
    CRITERIA[name] = criterion


def mean_per_row(values: Tensor, positions: ScoredPositions) -> Tensor:
    """Mean of ``values`` (N,) over the labelled positions of each row -> (B,) fp32.

    Rows without a labelled position get ``UNLABELLED``.
    """
    labelled = positions.targets != IGNORE_INDEX
    total = positions.laid_out(values.float().where(labelled, 0.0)).sum(dim=1)
    count = positions.laid_out(labelled.float()).sum(dim=1)
    return torch.where(count > 0, total / count.clamp(min=1), UNLABELLED)


def score_positions(
    criterion: Criterion, logits: Tensor, positions: ScoredPositions, gathered: bool = True
) -> Tensor:
    """Per-sample scores (B,) of the logits at ``positions``: of those (N, C) that were gathered
    there, or of all (B * T, C)."""
    rows = None if gathered else positions.flat
    targets = positions.targets.clamp(min=0)  # a place without a label has some class's value
    return mean_per_row(criterion_values(criterion, logits, targets, rows), positions)


def _per_sample(criterion: Criterion, logits: Tensor, labels: Tensor) -> Tensor:
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} need labels of shape "
            f"{tuple(logits.shape[:-1])}, got {tuple(labels.shape)}"
        )
    positions = scored_positions(labels)
    return score_positions(criterion, logits.flatten(0, -2), positions, gathered=False)


def per_sample_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over each sample's labelled positions (section 7.1, loss-based SIFT).

    Args:
        logits: ``(B, C)`` or ``(B, T, C)``, aligned with the labels (shift a causal model's).
        labels: ``(B,)`` or ``(B, T)`` class ids; -100 marks positions that are not labelled.

    Returns:
        ``(B,)`` in nats, fp32; ``UNLABELLED`` for a sample without a labelled position.

    Raises:
        ValueError: if the shapes disagree.
    """
    return _per_sample(cross_entropy, logits, labels)


def per_sample_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean predictive entropy over each sample's labelled positions (section 7.1).

    Shapes, units and errors as in `per_sample_loss`; of the labels only -100 or not matters.
    """
    return _per_sample(entropy, logits, labels)
