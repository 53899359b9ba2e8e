"""The names of a model and a dataset, as fields of a command line."""

from dataclasses import dataclass, field

from sift_trainer.probe.from_names.loading import TASKS


@dataclass
class ModelAndDataset:
    """What `build_trainer` makes a trainer from.

    Raises:
        ValueError: at construction, naming the field, its value and what it accepts.
    """

    model: str | None = field(
        default=None, metadata={"help": "folder or hub id that from_pretrained reads"}
    )
    dataset: list[str] = field(
        default_factory=list,
        metadata={
            "help": "hub id; files or patterns (text, JSON lines, JSON, CSV, Parquet, also .gz and "
            ".xz); a folder of such files or of images, or one that save_to_disk wrote"
        },
    )
    task: str | None = field(
        default=None,
        metadata={"help": f"{', '.join(TASKS)}; default: by the model's configuration"},
    )
    from_config: bool = field(
        default=False,
        metadata={"help": "initialize the model freshly from its configuration"},
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "folder or hub id; default: the model's own"}
    )
    image_processor: str | None = field(
        default=None, metadata={"help": "folder or hub id; default: the model's own"}
    )
    dataset_config: str | None = field(
        default=None, metadata={"help": "configuration of a dataset on the hub"}
    )
    split: str = field(default="train", metadata={"help": "of the dataset; default: train"})
    text_column: str | None = field(
        default=None, metadata={"help": "texts; default: text, sentence or sentence1"}
    )
    text_pair_column: str | None = field(
        default=None,
        metadata={"help": "second texts of pairs; default: sentence2 beside sentence1"},
    )
    label_column: str | None = field(
        default=None, metadata={"help": "class ids or names; default: label or labels"}
    )
    image_column: str | None = field(
        default=None, metadata={"help": "images; default: image or img"}
    )
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "tokens of a row; default: the limit of model and tokenizer, at most 1024 for "
            "language modelling and 512 for classification"
        },
    )

    def __post_init__(self) -> None:
        if not self.model or not self.dataset:
            raise ValueError(
                f"model={self.model!r}, dataset={self.dataset}: both are needed, such as --model "
                "google-bert/bert-base-uncased --dataset 'texts/*.jsonl'; or give --config FILE"
            )
        if self.task is not None and self.task not in TASKS:
            raise ValueError(f"task={self.task!r} is unknown; choose one of {', '.join(TASKS)}")
        if self.max_length is not None and self.max_length < 2:
            raise ValueError(f"max_length={self.max_length} must be 2 or more, such as 128")
