"""Task, model and tokenizer, read by Transformers' Auto classes.

A model that needs its own code is refused: nothing downloaded is executed.
"""

from pathlib import Path
from typing import Any

import transformers
from torch import nn
from transformers import AutoTokenizer

MASKED_LM, CAUSAL_LM = "masked-lm", "causal-lm"
TEXT_CLASSIFICATION, IMAGE_CLASSIFICATION = "text-classification", "image-classification"

# Task -> the Auto class, and how the names of its model classes end.
TASKS: dict[str, tuple[str, tuple[str, ...]]] = {
    MASKED_LM: ("AutoModelForMaskedLM", ("ForMaskedLM",)),
    CAUSAL_LM: ("AutoModelForCausalLM", ("ForCausalLM", "LMHeadModel")),
    TEXT_CLASSIFICATION: ("AutoModelForSequenceClassification", ("ForSequenceClassification",)),
    IMAGE_CLASSIFICATION: ("AutoModelForImageClassification", ("ForImageClassification",)),
}
_NAMED = 4  # parameters in a note


def tasks_of(config: Any) -> list[str]:
    """Tasks that the saved model was made for, by the ``architectures`` of its configuration."""
    saved = config.architectures or []
    return [task for task, (_, ends) in TASKS.items() if any(name.endswith(ends) for name in saved)]


def load_tokenizer(place: str, config: Any) -> Any:
    """The tokenizer in a folder or on the hub.

    Args:
        place: a model, or a folder with a vocabulary alone.
        config: of the model; says of which kind a vocabulary alone is.
    """
    alone = Path(place).is_dir() and not (Path(place) / "config.json").is_file()
    how = {"config": config} if alone else {}
    return AutoTokenizer.from_pretrained(place, trust_remote_code=False, **how)


def load_model(
    name: str, task: str, config: Any, from_config: bool = False, new_head: bool = False
) -> tuple[nn.Module, list[str]]:
    """The model, and notes for the report on weights that are not trained.

    Args:
        name: folder or hub id.
        config: of the model, with the number of classes that it should have.
        from_config: initialize it freshly.
        new_head: replace a head with another number of classes.
    """
    auto_class = getattr(transformers, TASKS[task][0])
    if from_config:
        model = auto_class.from_config(config, trust_remote_code=False)
        return model, [f"model: {name}, freshly initialized from its configuration"]
    model, loaded = auto_class.from_pretrained(
        name,
        config=config,
        trust_remote_code=False,
        ignore_mismatched_sizes=new_head,
        output_loading_info=True,
    )
    fresh = sorted({*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])})
    if not fresh:
        return model, [f"model: {name}"]
    named = ", ".join(fresh[:_NAMED]) + (", ..." if len(fresh) > _NAMED else "")
    return model, [
        f"model: {name}, which has no weights for {named}: scores by a head that is not "
        "trained say little, unless a checkpoint has them"
    ]


def fit_vocabulary(model: Any, tokenizer: Any) -> list[str]:
    """Add embeddings for tokens that are new to the model; a note for the report if there are."""
    new = len(tokenizer) - model.get_input_embeddings().weight.shape[0]
    if new <= 0:
        return []
    model.resize_token_embeddings(len(tokenizer))
    return [f"vocabulary: {new} tokens of the tokenizer are new to the model"]


def row_length(max_length: int | None, model: Any, tokenizer: Any, default: int) -> int:
    """Tokens of a row: ``max_length``, or ``default`` within the limits of model and tokenizer.

    Raises:
        ValueError: for a ``max_length`` above these limits.
    """
    limit = int(tokenizer.model_max_length)  # 1e30 if it is not set
    limit = min(limit, getattr(model.config, "max_position_embeddings", None) or limit)
    if max_length is not None and max_length > limit:
        raise ValueError(
            f"max_length={max_length} is more than model and tokenizer take; use {limit} or less"
        )
    return max_length or min(default, limit)
