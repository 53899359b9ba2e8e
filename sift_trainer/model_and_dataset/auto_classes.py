"""The four tasks, which Auto class makes a model for each, and which of them a model is for."""

from typing import Any

import transformers
from transformers.models.auto import modeling_auto

MASKED_LM = "masked-lm"
CAUSAL_LM = "causal-lm"
TEXT_CLASSIFICATION = "text-classification"
IMAGE_CLASSIFICATION = "image-classification"

TASKS = (MASKED_LM, CAUSAL_LM, TEXT_CLASSIFICATION, IMAGE_CLASSIFICATION)
LANGUAGE_MODELLING = (MASKED_LM, CAUSAL_LM)

_AUTO_CLASSES = {
    MASKED_LM: "AutoModelForMaskedLM",
    CAUSAL_LM: "AutoModelForCausalLM",
    TEXT_CLASSIFICATION: "AutoModelForSequenceClassification",
    IMAGE_CLASSIFICATION: "AutoModelForImageClassification",
}
# Type of a configuration -> name of the class, or of several; as the Auto classes look them up.
_ARCHITECTURES = {
    MASKED_LM: modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    CAUSAL_LM: modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    TEXT_CLASSIFICATION: modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    IMAGE_CLASSIFICATION: modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
}


def auto_class(task: str) -> Any:
    """The class of Transformers whose ``from_pretrained`` makes models for the task."""
    return getattr(transformers, _AUTO_CLASSES[task])


def check_task(task: str) -> None:
    """Raise `ValueError` for a task that is none of `TASKS`."""
    if task not in TASKS:
        raise ValueError(f"task={task!r} is unknown; choose one of {', '.join(TASKS)}")


def is_for(config: Any, task: str) -> bool:
    """Whether the configuration says that its model was made for the task."""
    return task in _tasks_of(config)


def task_of(config: Any, model: str) -> str:
    """The one task that the model's configuration was saved for.

    Args:
        config: with ``architectures``, as ``save_pretrained`` writes them.
        model: its name, for the error.

    Raises:
        ValueError: if it says nothing, another task, or several.
    """
    found = _tasks_of(config)
    if len(found) == 1:
        return found[0]
    architectures = config.architectures or "no architectures"
    raise ValueError(
        f"task is not given, and the configuration of model={model!r} ({architectures}) does not "
        f"say which: add --task with one of {', '.join(TASKS)}"
    )


def _tasks_of(config: Any) -> list[str]:
    saved = set(config.architectures or ())
    return [task for task in TASKS if saved & _names(task)]


def _names(task: str) -> set[str]:
    names: set[str] = set()
    for value in _ARCHITECTURES[task].values():
        names.update([value] if isinstance(value, str) else value)
    return names
