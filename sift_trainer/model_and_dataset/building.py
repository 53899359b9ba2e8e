"""A trainer for a model and a dataset that are given by name, made and not trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    default_data_collator,
    set_seed,
)

from sift_trainer import SiftTrainer, SiftTrainingArguments
from sift_trainer.early_exit import exit_at
from sift_trainer.model_and_dataset.arguments import ModelAndDataset
from sift_trainer.model_and_dataset.auto_classes import (
    IMAGE_CLASSIFICATION,
    LANGUAGE_MODELLING,
    MASKED_LM,
    is_for,
    task_of,
)
from sift_trainer.model_and_dataset.class_labels import find_classes
from sift_trainer.model_and_dataset.classification import (
    chosen_rows,
    images_with_classes,
    texts_with_classes,
)
from sift_trainer.model_and_dataset.columns import (
    image_column,
    kinds_of,
    label_column,
    text_column,
    text_columns,
)
from sift_trainer.model_and_dataset.language import blocks_of
from sift_trainer.model_and_dataset.loading import (
    fit_vocabulary,
    load_configuration,
    load_image_processor,
    load_model,
    load_tokenizer,
    most_tokens,
)
from sift_trainer.model_and_dataset.opening import check_dataset, open_dataset, require_datasets
from sift_trainer.selection.schedule import num_candidates

_LONGEST_BLOCK = 1024
_LONGEST_TEXT = 512
# A trainer that is not trained writes nothing and evaluates nothing, whatever training would; and
# any model has the last exit, which is all that its construction asks for.
_NOT_TRAINED: dict[str, Any] = {
    "report_to": [],
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "push_to_hub": False,
    "sift_exit_layer": -1,
}


@dataclass(frozen=True)
class Built:
    """What `build_trainer` returns.

    Attributes:
        trainer: with a model and training rows, not trained.
        notes: what a reader of its results has to know: which weights, and how much of the data.
    """

    trainer: SiftTrainer
    notes: tuple[str, ...]


def build_trainer(
    source: ModelAndDataset,
    args: SiftTrainingArguments,
    batches: int,
    exits: Sequence[int] = (),
) -> Built:
    """A trainer with as many batches of candidates as are asked for, if the dataset has so many.

    Language modelling reads its texts from the front and no further than it needs; classification
    draws rows of the whole dataset. What is cheap to find wrong is found first: files, columns and
    task before weights, and those before any row is prepared.

    Args:
        args: of the training; its ``output_dir`` comes into being.
        batches: of candidates.
        exits: block numbers that the model has to have.

    Raises:
        ValueError: for a model, a dataset or columns that cannot be used.
        ImportError: for a missing extra.
        ConnectionError: if the hub cannot be reached.
    """
    require_datasets()
    check_dataset(source)
    config = load_configuration(source)
    task = source.task or task_of(config, str(source.model))
    wanted = batches * num_candidates(args.train_batch_size, args.sift_keep_ratio)
    set_seed(args.seed)
    if task in LANGUAGE_MODELLING:
        made = _language(source, task, config, wanted, exits, args.seed)
    elif task == IMAGE_CLASSIFICATION:
        made = _images(source, config, wanted, exits, args.seed)
    else:
        made = _texts(source, task, config, wanted, exits, args.seed)
    changes = dict(_NOT_TRAINED)
    if task == IMAGE_CLASSIFICATION:
        # Columns are taken away by their names before a transform has made pixels of them.
        changes["remove_unused_columns"] = False
    trainer = SiftTrainer(
        made.model, replace(args, **changes), made.collator, train_dataset=made.rows
    )
    return Built(trainer, (f"task: {task}", *made.notes))


@dataclass(frozen=True)
class _Made:
    model: nn.Module
    rows: Any
    collator: Any
    notes: list[str]


def _language(
    source: ModelAndDataset, task: str, config: Any, wanted: int, exits: Sequence[int], seed: int
) -> _Made:
    tokenizer = load_tokenizer(source, config)
    if task == MASKED_LM and tokenizer.mask_token is None:
        raise ValueError(
            f"task={task!r} needs a tokenizer with a mask token, which that of "
            f"{source.tokenizer or source.model} has not; give another with --tokenizer, or "
            "--task causal-lm"
        )
    data = open_dataset(source, streaming=True)
    column = text_column(source, kinds_of(data))
    model, notes = load_model(source, task, config, new_head=False)
    notes += fit_vocabulary(model, tokenizer)
    _check_exits(model, exits)
    size = _row_length(source, model, tokenizer, _LONGEST_BLOCK)
    labelled = task != MASKED_LM
    rows, cut = blocks_of(data, column, tokenizer, size, wanted, labelled, seed)
    collator = default_data_collator
    if task == MASKED_LM:
        collator = DataCollatorForLanguageModeling(tokenizer)
    return _Made(model, rows, collator, notes + cut)


def _texts(
    source: ModelAndDataset, task: str, config: Any, wanted: int, exits: Sequence[int], seed: int
) -> _Made:
    tokenizer = load_tokenizer(source, config)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ValueError(
            f"task={task!r} needs a tokenizer with a token to pad with, which that of "
            f"{source.tokenizer or source.model} has not; give another with --tokenizer"
        )
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    data = open_dataset(source, streaming=False)
    kinds = kinds_of(data)
    label = label_column(source, kinds)
    text, pair = text_columns(source, kinds, label)
    trained = not source.from_config and is_for(config, task)
    classes = find_classes(data, label, config, trained)
    model, notes = load_model(source, task, config, classes.new_head)
    notes += classes.notes + fit_vocabulary(model, tokenizer)
    _check_exits(model, exits)
    size = _row_length(source, model, tokenizer, _LONGEST_TEXT)
    chosen, cut = chosen_rows(data, wanted, seed)
    rows = texts_with_classes(chosen, text, pair, label, tokenizer, size, classes)
    return _Made(model, rows, DataCollatorWithPadding(tokenizer), notes + cut)


def _images(
    source: ModelAndDataset, config: Any, wanted: int, exits: Sequence[int], seed: int
) -> _Made:
    processor = load_image_processor(source)
    data = open_dataset(source, streaming=False)
    kinds = kinds_of(data)
    label = label_column(source, kinds)
    image = image_column(source, kinds)
    trained = not source.from_config and is_for(config, IMAGE_CLASSIFICATION)
    classes = find_classes(data, label, config, trained)
    model, notes = load_model(source, IMAGE_CLASSIFICATION, config, classes.new_head)
    _check_exits(model, exits)
    chosen, cut = chosen_rows(data, wanted, seed)
    rows = images_with_classes(chosen, image, label, processor, classes)
    return _Made(model, rows, default_data_collator, notes + classes.notes + cut)


def _check_exits(model: nn.Module, exits: Sequence[int]) -> None:
    for k in exits:
        exit_at(model, k)


def _row_length(source: ModelAndDataset, model: Any, tokenizer: Any, longest: int) -> int:
    limit = most_tokens(model, tokenizer)
    if source.max_length is None:
        return min(longest, limit or longest)
    if limit is not None and source.max_length > limit:
        raise ValueError(
            f"max_length={source.max_length} is more than model and tokenizer take; use {limit} "
            "or less"
        )
    return source.max_length
