"""How hard is a sample? Criteria give values of predictions; a sample's score is their mean."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sift_trainer.scoring.logit_pass import Values, values_of
from sift_trainer.scoring.positions import IGNORE_INDEX, ScoredPositions, scored_positions

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


@dataclass(frozen=True)
class SampleStates:
    """Hidden states at the exit, of the positions that a sample is scored by.

    Attributes:
        states: ``(B, P, d)``, P positions side by side.
        weights: ``(B, P)`` 1 for a position, 0 for an empty place.
    """

    states: Tensor
    weights: Tensor

    def mean(self) -> Tensor:
        """The mean state of each sample: (B, d) in fp32; 0 without a position."""
        share = self.weights / self.weights.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.einsum("bp,bpd->bd", share.to(self.states.dtype), self.states).float()


@dataclass(frozen=True)
class Samples:
    """Some samples of a batch, for a criterion with a state.

    Attributes:
        fields: the batch, on the model's device, with the columns of the criterion.
        values: ``(B,)`` fp32: scores of the scoring pass for candidates, losses in nats for kept
            samples; `UNLABELLED` without a label.
        labels: ``(B, ...)`` what the loss compares the predictions with; None without labels.
        features: ``(B, F)`` of `StatefulCriterion.features`; None without any.
    """

    fields: Mapping[str, Any]
    values: Tensor
    labels: Tensor | None = None
    features: Tensor | None = None


class StatefulCriterion:
    """A criterion with a state of its own: losses that it has seen, or parameters.

    Each process of a run makes one object of it, whose state is saved in checkpoints and restored.

    Attributes:
        scored_by: the criterion of the scoring pass; ``"random"``: no pass through the model.
        columns: columns of the training data that it reads and the model does not get.
        reads_states: whether `features` gets the states at the exit.
        needs_losses: whether training must know the loss of each sample; else it is refused.
        predicts_losses: whether its scores are to agree with the losses of the whole model. If they
            do not, the trainer stops choosing by them.
    """

    scored_by: ClassVar[str] = "loss"
    columns: ClassVar[tuple[str, ...]] = ()
    reads_states: ClassVar[bool] = False
    needs_losses: ClassVar[bool] = True
    predicts_losses: ClassVar[bool] = False

    def __init__(self, model: nn.Module) -> None:
        """Begin a run that trains ``model``, the bare module."""

    def features(self, candidates: Samples, states: SampleStates | None) -> Tensor | None:
        """Numbers (B, F) of the candidates that `scores` and, of the kept ones, `learn` get. If a
        criterion learns, every second step that does not sift is scored for them too.

        Args:
            states: None for a model without a known exit, or if `reads_states` is false.
        """
        return None

    def scores(self, candidates: Samples) -> Tensor:
        """The scores (B,) to select by."""
        return candidates.values

    def learn(self, trained: Samples) -> None:
        """Update the state after the forward of any step, with gradients enabled."""

    def state_dict(self) -> dict[str, Any]:
        """The state: tensors, numbers, strings, lists and dictionaries."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""

    @classmethod
    def learns(cls) -> bool:
        """Whether it overrides `learn`."""
        return cls.learn is not StatefulCriterion.learn

    @classmethod
    def learns_from_features(cls) -> bool:
        """Whether it overrides `learn` and `features`."""
        return cls.learns() and cls.features is not StatefulCriterion.features


@dataclass(frozen=True)
class Criterion:
    """How hard a sample is.

    Attributes:
        values: of single predictions; None: no pass through the model, and random scores.
        is_loss, is_entropy: whether it is that, for which a task may have values of its own.
        state: makes the scores from those of the scoring pass; None: they are the scores.
    """

    name: str
    values: Values | None
    needs_labels: bool = True
    is_loss: bool = False
    is_entropy: bool = False
    state: type[StatefulCriterion] | None = None


LOSS = Criterion("loss", cross_entropy, is_loss=True)
ENTROPY = Criterion("entropy", entropy, needs_labels=False, is_entropy=True)
CRITERIA: dict[str, Criterion] = {
    "loss": LOSS,
    "entropy": ENTROPY,
    "random": Criterion("random", None, needs_labels=False),  # the control
}


def register_criterion(
    name: str, criterion: "type[StatefulCriterion] | Values", needs_labels: bool = True
) -> None:
    """Make ``criterion`` available as ``sift_criterion=name``.

    Args:
        criterion: ``(logits (N, C), targets (N,)) -> (N,)``, or a subclass of `StatefulCriterion`.
        needs_labels: whether the batch must have labels, if it is a function.

    Raises:
        ValueError: if the name is taken.
    """
    if name in CRITERIA:
        raise ValueError(f"criterion name {name!r} is taken; choose one not in {sorted(CRITERIA)}")
    if isinstance(criterion, type):
        stateful: type[StatefulCriterion] = criterion
        CRITERIA[name] = replace(CRITERIA[stateful.scored_by], name=name, state=stateful)
    else:
        CRITERIA[name] = Criterion(name, criterion, needs_labels)


def mean_per_row(values: Tensor, positions: ScoredPositions) -> Tensor:
    """Mean of ``values`` (N,) over the labelled positions of each row, else `UNLABELLED`: (B,)."""
    labelled = positions.targets != IGNORE_INDEX
    total = positions.laid_out(values.float().where(labelled, 0.0)).sum(dim=1)
    count = positions.laid_out(labelled.float()).sum(dim=1)
    return torch.where(count > 0, total / count.clamp(min=1), UNLABELLED)


def score_positions(
    values: Values, logits: Tensor, positions: ScoredPositions, gathered: bool = True
) -> Tensor:
    """Per-sample scores (B,) from the logits at ``positions``: (N, C) if they are ``gathered``
    there, else (B * T, C) of all positions."""
    rows = None if gathered else positions.flat
    targets = positions.targets.clamp(min=0)  # the value of a place without a label is not used
    return mean_per_row(values_of(values, logits, targets, rows), positions)


def _per_sample(values: Values, logits: Tensor, labels: Tensor) -> Tensor:
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} need labels of shape "
            f"{tuple(logits.shape[:-1])}, got {tuple(labels.shape)}"
        )
    positions = scored_positions(labels)
    return score_positions(values, logits.flatten(0, -2), positions, gathered=False)


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
    """Mean predictive entropy over each sample's labelled positions (section 7.1), with shapes,
    units and errors as in `per_sample_loss`."""
    return _per_sample(entropy, logits, labels)
