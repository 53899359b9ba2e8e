"""Configuration, model, tokenizer and image processor, read by Transformers' Auto classes.

Nothing that comes from elsewhere runs code: a model that brings its own is refused.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

from sift_trainer.model_and_dataset.arguments import ModelAndDataset
from sift_trainer.model_and_dataset.auto_classes import auto_class

_NAMED = 4  # parameters in a note


def load_configuration(source: ModelAndDataset) -> Any:
    """Raises `ValueError` for a model that has none."""
    return _read(
        lambda: AutoConfig.from_pretrained(source.model, trust_remote_code=False),
        f"model={source.model!r}",
        "give the id of a model on the hub, or a folder with a config.json, as save_pretrained "
        "writes it",
    )


def load_tokenizer(source: ModelAndDataset, config: Any) -> Any:
    """The model's tokenizer, or another.

    Args:
        config: of the model, which says what kind a vocabulary alone is of.

    Raises:
        ValueError: where there is none.
    """
    place = source.tokenizer or str(source.model)
    bare = Path(place).is_dir() and not (Path(place) / "config.json").is_file()
    how = {"config": config} if bare else {}
    return _read(
        lambda: AutoTokenizer.from_pretrained(place, trust_remote_code=False, **how),
        f"tokenizer={place!r}",
        "give another with --tokenizer, such as the id of a model on the hub or a folder with a "
        "tokenizer.json",
    )


def load_image_processor(source: ModelAndDataset) -> Any:
    """Raises `ValueError` where neither the model nor ``image_processor`` has one."""
    return _read(
        lambda: AutoImageProcessor.from_pretrained(
            source.image_processor or source.model, trust_remote_code=False
        ),
        f"image_processor={source.image_processor or source.model!r}",
        "give another with --image_processor, such as the id of a model on the hub or a folder "
        "with a preprocessor_config.json",
    )


def load_model(
    source: ModelAndDataset, task: str, config: Any, new_head: bool
) -> tuple[nn.Module, list[str]]:
    """The model, and notes on what of it is not trained.

    Args:
        config: of the model, with the number of labels that it is to have.
        new_head: whether that is another number than the saved weights have.

    Raises:
        ValueError: for a model that cannot be read, or has no head for the task.
    """
    if source.from_config:
        model = _read(
            lambda: auto_class(task).from_config(config, trust_remote_code=False),
            f"model={source.model!r} for task={task!r}",
            "give a model of a kind that Transformers has for the task, or another --task",
        )
        return model, [f"model: {source.model}, freshly initialized from its configuration"]
    model, loaded = _read(
        lambda: auto_class(task).from_pretrained(
            source.model,
            config=config,
            trust_remote_code=False,
            ignore_mismatched_sizes=new_head,
            output_loading_info=True,
        ),
        f"model={source.model!r} for task={task!r}",
        "give a folder or hub id with weights of such a model, or add --from_config to initialize "
        "it freshly",
    )
    fresh = sorted({*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])})
    if not fresh:
        return model, [f"model: {source.model}"]
    named = ", ".join(fresh[:_NAMED]) + (", ..." if len(fresh) > _NAMED else "")
    return model, [
        f"model: {source.model}, which has no weights for {named}: scores by a head that is not "
        "trained say little, unless a checkpoint has them"
    ]


def fit_vocabulary(model: Any, tokenizer: Any) -> list[str]:
    """Add embeddings where the tokenizer has more tokens than the model; a note if that was so."""
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) <= rows:
        return []
    model.resize_token_embeddings(len(tokenizer))
    return [f"vocabulary: {len(tokenizer) - rows} tokens of the tokenizer are new to the model"]


def most_tokens(model: Any, tokenizer: Any) -> int | None:
    """The longest row that model and tokenizer take; None if neither says."""
    limits = [tokenizer.model_max_length]  # 1e30 where nobody has set it
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None:
        limits.append(positions - _unused_positions(model))
    limit = int(min(limits))
    return limit if limit < 1e9 else None


def _unused_positions(model: nn.Module) -> int:
    """RoBERTa and its kin count positions from behind the padding's."""
    for name, module in model.named_modules():
        padded = isinstance(module, torch.nn.Embedding) and module.padding_idx is not None
        if padded and name.endswith("position_embeddings"):
            return int(module.padding_idx) + 1
    return 0


def _read(read: Callable[[], Any], what: str, instead: str) -> Any:
    try:
        return read()
    except Exception as error:  # files that are broken can end in nearly any
        # Of an unknown class Transformers lists all that it knows, on the lines below.
        told = str(error).split("Model type should be one of")[0].strip()
        raise ValueError(f"{what} cannot be read: {told or type(error).__name__}; {instead}") from (
            error
        )
