"""The settings of a pre-training job, and the checks that involve several of them."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sift_trainer.arguments import SiftTrainingArguments
from sift_trainer.early_exit.adapter import check_exit
from sift_trainer.processes.launch import LaunchArguments
from sift_trainer.reproduction.configuration import Config
from sift_trainer.reproduction.corpus.corpus import CorpusArguments
from sift_trainer.reproduction.runs.training import check_runs


@dataclass
class ModelArguments:
    """Shape of the BERT that is trained from scratch; the defaults are the paper's, BERT-base."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    attn_implementation: Literal["sdpa", "eager"] = "sdpa"


@dataclass
class DataArguments:
    """How rows are masked, and which validation rows are used."""

    mask_probability: float = field(default=0.15, metadata={"help": "Share of tokens to predict."})
    masks_per_row: int | None = field(
        default=None,
        metadata={"help": "Predict exactly this many tokens of each row instead (static shapes)."},
    )
    validation_samples: int | None = field(
        default=None, metadata={"help": "Rows to evaluate on; all if unset."}
    )
    validation_seed: int = field(default=0, metadata={"help": "Of the fixed validation masks."})

    def __post_init__(self) -> None:
        if not 0 < self.mask_probability < 1:
            raise ValueError(
                f"mask_probability={self.mask_probability} must be in (0, 1), such as 0.15"
            )


@dataclass
class JobArguments:
    """What to do."""

    prepare: bool = field(
        default=False, metadata={"help": "Prepare the corpus first if it is not prepared yet."}
    )
    dry_run: bool = field(
        default=False, metadata={"help": "Print what the runs would cost, and exit."}
    )


class Settings(NamedTuple):
    """One object for each group of fields."""

    model: ModelArguments
    corpus: CorpusArguments
    data: DataArguments
    job: JobArguments
    launch: LaunchArguments
    args: SiftTrainingArguments


KINDS = tuple(Settings.__annotations__.values())


def check(config: Config) -> None:
    """Check every run; raises `ConfigError`, which names the run."""
    check_runs(config, Settings, ("corpus", "data", "job", "launch"), _check_run)


def _check_run(run: Settings) -> None:
    if run.corpus.max_length > run.model.max_position_embeddings:
        raise ValueError(
            f"max_length={run.corpus.max_length} is above max_position_embeddings="
            f"{run.model.max_position_embeddings}; use at most that many tokens"
        )
    if run.args.sift_keep_ratio < 1:
        check_exit(run.args.sift_exit_layer, run.model.num_hidden_layers, "BertForPreTraining")
