"""Which model on which dataset, as a command line names them."""

from dataclasses import dataclass, field

from sift_trainer.model_and_dataset.auto_classes import check_task

_COLUMNS = "; default: found where there is one candidate"


@dataclass
class ModelAndDataset:
    """What a trainer is built from, see `build_trainer`.

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
        metadata={
            "help": "masked-lm, causal-lm, text-classification or image-classification; default: "
            "what the model's configuration says it was trained for"
        },
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
    text_column: str | None = field(default=None, metadata={"help": f"texts{_COLUMNS}"})
    text_pair_column: str | None = field(
        default=None,
        metadata={
            "help": "second texts, where pairs are classified; default: sentence2 beside sentence1"
        },
    )
    label_column: str | None = field(
        default=None, metadata={"help": f"class ids or names{_COLUMNS}"}
    )
    image_column: str | None = field(default=None, metadata={"help": f"images{_COLUMNS}"})
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "tokens of a row; default: what model and tokenizer take, 1024 at most for "
            "language modelling and 512 for classification"
        },
    )

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError(
                "model is missing beside dataset; add --model with a folder or hub id, such as "
                "--model google-bert/bert-base-uncased"
            )
        if not self.dataset:
            raise ValueError(
                "dataset is missing beside model; add --dataset with files, a folder or a hub id, "
                "such as --dataset texts/*.jsonl"
            )
        if self.task is not None:
            check_task(self.task)
        if self.max_length is not None and self.max_length < 2:
            raise ValueError(f"max_length={self.max_length} must be 2 or more, such as 128")
        if self.text_pair_column is not None and self.text_column is None:
            raise ValueError(
                f"text_pair_column={self.text_pair_column!r} needs the first texts too; add "
                "--text_column"
            )
