"""Makes a trainer for a model and a dataset that are given by name. No downloaded code is run."""

from dataclasses import dataclass, field, replace
from typing import Any

import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    default_data_collator,
    set_seed,
)

from sift_trainer import SiftTrainer, SiftTrainingArguments
from sift_trainer.probe.from_names.rows import (
    blocks_of,
    class_ids,
    column_of,
    image_rows,
    open_dataset,
    random_rows,
    text_rows,
)
from sift_trainer.selection.schedule import num_candidates

MASKED_LM, CAUSAL_LM = "masked-lm", "causal-lm"
TEXT_CLASSIFICATION, IMAGE_CLASSIFICATION = "text-classification", "image-classification"

# Task -> the Auto class, and how the names of its model classes end.
TASKS: dict[str, tuple[str, tuple[str, ...]]] = {
    MASKED_LM: ("AutoModelForMaskedLM", ("ForMaskedLM",)),
    CAUSAL_LM: ("AutoModelForCausalLM", ("ForCausalLM", "LMHeadModel")),
    TEXT_CLASSIFICATION: ("AutoModelForSequenceClassification", ("ForSequenceClassification",)),
    IMAGE_CLASSIFICATION: ("AutoModelForImageClassification", ("ForImageClassification",)),
}

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


@dataclass
class ModelAndDataset:
    """What `build_trainer` makes a trainer from; the flags are explained in docs/probe.md."""

    model: str | None = None
    dataset: list[str] = field(default_factory=list)
    task: str | None = None
    dataset_config: str | None = None
    split: str = "train"
    text_column: str | None = None
    text_pair_column: str | None = None
    label_column: str | None = None
    image_column: str | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        if not self.model or not self.dataset:
            raise ValueError(
                f"model={self.model!r}, dataset={self.dataset}: both are needed, such as --model "
                "google-bert/bert-base-uncased --dataset 'texts/*.jsonl'; or give --config FILE"
            )
        if self.task is not None and self.task not in TASKS:
            raise ValueError(f"task={self.task!r} is unknown; choose one of {', '.join(TASKS)}")


def build_trainer(
    source: ModelAndDataset, args: SiftTrainingArguments, batches: int
) -> tuple[SiftTrainer, list[str]]:
    """A trainer with rows for some batches of candidates, and notes on its weights and data.

    Language modelling reads its texts from the front and no further than it needs. Classification
    draws rows from the whole dataset.
    """
    config = AutoConfig.from_pretrained(source.model, trust_remote_code=False)
    task = source.task or _only_task_of(config)
    wanted = batches * num_candidates(args.train_batch_size, args.sift_keep_ratio)
    set_seed(args.seed)
    if task in (TEXT_CLASSIFICATION, IMAGE_CLASSIFICATION):
        model, rows, collator, notes = _classified(source, task, config, wanted, args.seed)
    else:
        model, rows, collator, notes = _blocks(source, task, config, wanted)
    args = replace(args, **_NOT_TRAINED)
    args.remove_unused_columns = task != IMAGE_CLASSIFICATION  # its transform names the columns
    trainer = SiftTrainer(model, args, collator, train_dataset=rows)
    return trainer, [f"task: {task}", *notes]


def _tasks_of(config: Any) -> list[str]:
    saved = config.architectures or []
    return [task for task, (_, ends) in TASKS.items() if any(name.endswith(ends) for name in saved)]


def _load_model(name: str, task: str, config: Any) -> tuple[nn.Module, list[str]]:
    """The model, and notes on weights that are not trained. A head with another number of classes
    than the configuration's is replaced."""
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


def _only_task_of(config: Any) -> str:
    tasks = _tasks_of(config)
    if len(tasks) == 1:
        return tasks[0]
    raise ValueError(
        f"the model's configuration (architectures={config.architectures}) does not name one task; "
        f"add --task with one of {', '.join(TASKS)}"
    )


def _blocks(source: ModelAndDataset, task: str, config: Any, wanted: int) -> tuple[Any, ...]:
    tokenizer = AutoTokenizer.from_pretrained(source.model, trust_remote_code=False)
    data = open_dataset(source.dataset, source.split, source.dataset_config, streaming=True)
    column = column_of(data, "text_column", source.text_column, ["text", "sentence"])
    model, notes = _load_model(str(source.model), task, config)
    length = _row_length(source, config, tokenizer, _LONGEST_BLOCK)
    masked = task == MASKED_LM
    collator = DataCollatorForLanguageModeling(tokenizer) if masked else default_data_collator
    rows, note = blocks_of(data, column, tokenizer, length, wanted, labelled=not masked)
    return model, rows, collator, [*notes, note]


def _classified(
    source: ModelAndDataset, task: str, config: Any, wanted: int, seed: int
) -> tuple[Any, ...]:
    data = open_dataset(source.dataset, source.split, source.dataset_config)
    label = column_of(data, "label_column", source.label_column, ["label", "labels"])
    of_the_head = config.id2label if task in _tasks_of(config) else None
    ids = class_ids(data, label, config, trained=of_the_head is not None)
    chosen, note = random_rows(data, wanted, seed)
    if task == IMAGE_CLASSIFICATION:
        processor = AutoImageProcessor.from_pretrained(source.model, trust_remote_code=False)
        column = column_of(data, "image_column", source.image_column, ["image", "img"])
        rows = image_rows(chosen, column, label, processor, ids)
        collator = default_data_collator
    else:
        tokenizer = AutoTokenizer.from_pretrained(source.model, trust_remote_code=False)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if config.pad_token_id is None:
            config.pad_token_id = tokenizer.pad_token_id
        columns = [column_of(data, "text_column", source.text_column, ["text", "sentence"])]
        if source.text_pair_column is not None:
            columns.append(column_of(data, "text_pair_column", source.text_pair_column, []))
        length = _row_length(source, config, tokenizer, _LONGEST_TEXT)
        rows = text_rows(chosen, columns, label, tokenizer, length, ids)
        collator = DataCollatorWithPadding(tokenizer)
    model, notes = _load_model(str(source.model), task, config)
    notes.append(f"classes: {', '.join(config.id2label.values()):.200}")
    if of_the_head not in (None, config.id2label):
        notes[-1] += f"; the model's head was for {', '.join(of_the_head.values()):.200}"
    return model, rows, collator, [*notes, note]


def _row_length(source: ModelAndDataset, config: Any, tokenizer: Any, default: int) -> int:
    """Tokens of a row: ``max_length``, or ``default`` within the limits of model and tokenizer."""
    limit = int(tokenizer.model_max_length)  # 1e30 if it is not set
    limit = min(limit, getattr(config, "max_position_embeddings", None) or limit)
    return source.max_length or min(default, limit)
