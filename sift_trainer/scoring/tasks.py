"""Which task a model has: a registered one, or one by its class and configuration."""

import inspect

from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.models.auto import modeling_auto
from transformers.trainer_utils import unwrap_peft_model

from sift_trainer.scoring.answer_span import AnswerSpan
from sift_trainer.scoring.class_ids import ClassIds
from sift_trainer.scoring.multi_label import MultiLabel
from sift_trainer.scoring.regression import Regression
from sift_trainer.scoring.task import Task
from sift_trainer.scoring.transcription import Transcription

__all__ = [
    "AnswerSpan",
    "ClassIds",
    "MultiLabel",
    "Regression",
    "Task",
    "Transcription",
    "register_task",
    "task_of",
]

_REGISTERED: dict[type[nn.Module], Task] = {}

_WITH_PROBLEM_TYPE = {
    *modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.values(),
    *modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.values(),
    *modeling_auto.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES.values(),
    "ASTForAudioClassification",  # the other audio models always classify
}
"""Classes whose loss follows ``config.problem_type``."""

_TRANSCRIBERS = set(modeling_auto.MODEL_FOR_CTC_MAPPING_NAMES.values())


def register_task(model_class: type[nn.Module], task: Task) -> None:
    """Set the task of a class and its subclasses, as in ``register_task(MyNet, Regression())``."""
    _REGISTERED[model_class] = task


def task_of(model: nn.Module, labels: Tensor | None = None) -> Task:
    """The task of ``model``: the registered one, else by class and configuration.

    Args:
        model: the bare module.
        labels: of the first batch. If the configuration has no ``problem_type``, their type
            decides, as in Transformers.
    """
    model = unwrap_peft_model(model)
    for model_class in type(model).__mro__:
        if model_class in _REGISTERED:
            return _REGISTERED[model_class]
    config = getattr(model, "config", None)
    if not isinstance(config, PreTrainedConfig):
        return ClassIds()
    names = {model_class.__name__ for model_class in type(model).__mro__}
    if set(AnswerSpan.fields) <= set(inspect.signature(model.forward).parameters):
        return AnswerSpan()
    if names & _TRANSCRIBERS:
        return Transcription(
            blank=config.pad_token_id,
            reduction=config.ctc_loss_reduction,
            zero_infinity=config.ctc_zero_infinity,
            # Private in Transformers, whose CTC losses count frames with it.
            frames=getattr(model, "_get_feat_extract_output_lengths", None),
        )
    if names & _WITH_PROBLEM_TYPE:
        return _classification(config, labels)
    return ClassIds()


def _classification(config: PreTrainedConfig, labels: Tensor | None) -> Task:
    kind = config.problem_type
    if kind == "regression" or (kind is None and config.num_labels == 1):
        return Regression()
    floating = labels is not None and labels.is_floating_point()
    if kind == "multi_label_classification" or (kind is None and floating):
        return MultiLabel()
    return ClassIds()
