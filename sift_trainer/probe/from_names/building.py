"""Makes a trainer for a model and a dataset that are given by name. It trains nothing."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    default_data_collator,
    set_seed,
)

from sift_trainer import SiftTrainer, SiftTrainingArguments
from sift_trainer.probe.from_names.arguments import ModelAndDataset
from sift_trainer.probe.from_names.loading import (
    IMAGE_CLASSIFICATION,
    MASKED_LM,
    TASKS,
    TEXT_CLASSIFICATION,
    fit_vocabulary,
    load_model,
    load_tokenizer,
    row_length,
    tasks_of,
)
from sift_trainer.probe.from_names.opening import column_of, open_dataset
from sift_trainer.probe.from_names.rows import (
    Classes,
    blocks_of,
    find_classes,
    image_rows,
    random_rows,
    text_rows,
)
from sift_trainer.selection.schedule import num_candidates

_LONGEST_BLOCK = 1024
_LONGEST_TEXT = 512
# Such a trainer reports, evaluates and pushes nothing. Every model has the last exit.
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
        notes: for a reader of the results: which weights, and how much of the data.
    """

    trainer: SiftTrainer
    notes: tuple[str, ...]


class _Parts(NamedTuple):
    model: nn.Module
    rows: Any
    collator: Any
    notes: list[str]


def build_trainer(source: ModelAndDataset, args: SiftTrainingArguments, batches: int) -> Built:
    """A trainer with enough rows for some batches of candidates, if the dataset has so many.

    Language modelling reads its texts from the front and no further than it needs. Classification
    draws rows from the whole dataset.

    Args:
        source: names of model and dataset.
        args: of the training. Its ``output_dir`` is created.
        batches: number of batches of candidates.

    Raises:
        ValueError: for a model, a dataset or columns that cannot be used.
        OSError: for names that do not exist, or if the hub cannot be reached.
        ImportError: naming the extra to install, if `datasets` is missing.
    """
    config = AutoConfig.from_pretrained(source.model, trust_remote_code=False)
    task = source.task or _only_task_of(config)
    wanted = batches * num_candidates(args.train_batch_size, args.sift_keep_ratio)
    set_seed(args.seed)
    changes = dict(_NOT_TRAINED)
    if task == IMAGE_CLASSIFICATION:
        parts = _images(source, config, wanted, args.seed)
        changes["remove_unused_columns"] = False  # columns are named after the transform
    elif task == TEXT_CLASSIFICATION:
        parts = _texts(source, config, wanted, args.seed)
    else:
        parts = _blocks(source, task, config, wanted)
    trainer = SiftTrainer(
        parts.model, replace(args, **changes), parts.collator, train_dataset=parts.rows
    )
    return Built(trainer, (f"task: {task}", *parts.notes))


def _only_task_of(config: Any) -> str:
    tasks = tasks_of(config)
    if len(tasks) == 1:
        return tasks[0]
    raise ValueError(
        f"the model's configuration (architectures={config.architectures}) does not name one task; "
        f"add --task with one of {', '.join(TASKS)}"
    )


def _blocks(source: ModelAndDataset, task: str, config: Any, wanted: int) -> _Parts:
    tokenizer = load_tokenizer(source.tokenizer or str(source.model), config)
    data = _open(source, streaming=True)
    column = _text_column(source, data)
    model, notes = load_model(str(source.model), task, config, source.from_config)
    notes += fit_vocabulary(model, tokenizer)
    length = row_length(source.max_length, model, tokenizer, _LONGEST_BLOCK)
    masked = task == MASKED_LM
    collator = DataCollatorForLanguageModeling(tokenizer) if masked else default_data_collator
    rows, cut = blocks_of(data, column, tokenizer, length, wanted, labelled=not masked)
    return _Parts(model, rows, collator, notes + cut)


def _texts(source: ModelAndDataset, config: Any, wanted: int, seed: int) -> _Parts:
    tokenizer = load_tokenizer(source.tokenizer or str(source.model), config)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    data = _open(source, streaming=False)
    columns = [_text_column(source, data)]
    pair = source.text_pair_column
    if columns == ["sentence1"] and "sentence2" in data.column_names:
        pair = pair or "sentence2"
    if pair is not None:
        columns.append(column_of(data, "text_pair_column", pair, []))
    label, classes, model, notes = _classes_and_model(source, TEXT_CLASSIFICATION, config, data)
    notes += fit_vocabulary(model, tokenizer)
    length = row_length(source.max_length, model, tokenizer, _LONGEST_TEXT)
    chosen, cut = random_rows(data, wanted, seed)
    rows = text_rows(chosen, columns, label, tokenizer, length, classes)
    return _Parts(model, rows, DataCollatorWithPadding(tokenizer), notes + cut)


def _images(source: ModelAndDataset, config: Any, wanted: int, seed: int) -> _Parts:
    place = source.image_processor or source.model
    processor = AutoImageProcessor.from_pretrained(place, trust_remote_code=False)
    data = _open(source, streaming=False)
    column = column_of(data, "image_column", source.image_column, ["image", "img"])
    label, classes, model, notes = _classes_and_model(source, IMAGE_CLASSIFICATION, config, data)
    chosen, cut = random_rows(data, wanted, seed)
    rows = image_rows(chosen, column, label, processor, classes)
    return _Parts(model, rows, default_data_collator, notes + cut)


def _open(source: ModelAndDataset, streaming: bool) -> Any:
    return open_dataset(source.dataset, source.split, source.dataset_config, streaming)


def _text_column(source: ModelAndDataset, data: Any) -> str:
    usual = ["text", "sentence", "sentence1"]
    return column_of(data, "text_column", source.text_column, usual)


def _classes_and_model(
    source: ModelAndDataset, task: str, config: Any, data: Any
) -> tuple[str, Classes, nn.Module, list[str]]:
    """The label column, its classes, the model with a head for them, and notes."""
    label = column_of(data, "label_column", source.label_column, ["label", "labels"])
    trained = not source.from_config and task in tasks_of(config)
    classes = find_classes(data, label, config, trained)
    model, notes = load_model(str(source.model), task, config, source.from_config, classes.new_head)
    return label, classes, model, notes + classes.notes
