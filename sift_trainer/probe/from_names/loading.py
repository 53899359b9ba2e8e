"""Task and model, read by Transformers' Auto classes.

A model that needs its own code is refused: nothing downloaded is executed.
"""

from typing import Any

import transformers
from torch import nn

MASKED_LM, CAUSAL_LM = "masked-lm", "causal-lm"
TEXT_CLASSIFICATION, IMAGE_CLASSIFICATION = "text-classification", "image-classification"

# Task -> the Auto class, and how the names of its model classes end.
TASKS: dict[str, tuple[str, tuple[str, ...]]] = {
    MASKED_LM: ("AutoModelForMaskedLM", ("ForMaskedLM",)),
    CAUSAL_LM: ("AutoModelForCausalLM", ("ForCausalLM", "LMHeadModel")),
    TEXT_CLASSIFICATION: ("AutoModelForSequenceClassification", ("ForSequenceClassification",)),
    IMAGE_CLASSIFICATION: ("AutoModelForImageClassification", ("ForImageClassification",)),
}


def tasks_of(config: Any) -> list[str]:
    """Tasks that the saved model was made for, by the ``architectures`` of its configuration."""
    saved = config.architectures or []
    return [task for task, (_, ends) in TASKS.items() if any(name.endswith(ends) for name in saved)]


def load_model(name: str, task: str, config: Any) -> tuple[nn.Module, list[str]]:
    """The model, and notes for the report on weights that are not trained.

    A head with another number of classes than the configuration's is replaced.
    """
    model, loaded = getattr(transformers, TASKS[task][0]).from_pretrained(
        name,
        config=config,
        trust_remote_code=False,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    fresh = sorted({*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])})
    if not fresh:
        return model, [f"model: {name}"]
    return model, [
        f"model: {name}, which has no weights for {', '.join(fresh)[:200]}: scores by a head that "
        "is not trained say little, unless a checkpoint has them"
    ]
