"""How to call the model of a run, and facts about it from the first batch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from sift_trainer.early_exit.labelled_head import LabelledHead
from sift_trainer.scoring.class_ids import ClassIds
from sift_trainer.scoring.task import Task
from sift_trainer.sifted_model.fields import with_known_fields
from sift_trainer.sifted_model.model_calls import Gather

CLASS_IDS = ClassIds()


@dataclass(frozen=True)
class ModelPasses:
    """A model, and how to call it for a pass without gradient.

    Attributes:
        module: the bare module.
        forward: the module, or the forward of its wrapper.
        compiled: compiled forward for scoring with static shapes, if training is compiled.
        trained: the module in the wrapper in which it is trained; None without a wrapper.
    """

    module: nn.Module
    forward: Callable[..., Any]
    compiled: Callable[..., Any] | None = None
    trained: nn.Module | None = None

    def with_known_fields(self) -> "ModelPasses":
        """The same passes, without the batch fields that the module does not take."""
        forward = with_known_fields(self.module, self.forward)
        compiled = None if self.compiled is None else with_known_fields(self.module, self.compiled)
        return replace(self, forward=forward, compiled=compiled)


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a model, found with the first batch.

    Attributes:
        task: what it predicts, and what its loss compares the predictions with.
        label_names: batch fields with labels.
        labels_per_row: the most labels of a sample; None if that is not known.
        known: False if no row of the batch had a finite loss, so the next batch must be probed.
        divides_by_count: whether its loss divides by ``num_items_in_batch``.
        needs_labels: whether its forward fails without labels although they have a default.
        head: computes labelled positions only; None: all positions are computed.
        trims: whether padding on the right does not change its loss.
        states_of_samples: whether the exit's states have the samples in the first dimension.
        gather: restricts training to labelled positions; None: it trains on all positions.
    """

    task: Task = CLASS_IDS
    label_names: tuple[str, ...] = ("labels",)
    labels_per_row: int | None = None
    known: bool = True
    divides_by_count: bool = True
    needs_labels: bool = False
    head: LabelledHead | None = None
    gather: Gather | None = None
    trims: bool = False
    states_of_samples: bool = True

    @property
    def shifted(self) -> bool:
        """Whether the loss compares a prediction with the next label."""
        return isinstance(self.task, ClassIds) and self.task.shifted
