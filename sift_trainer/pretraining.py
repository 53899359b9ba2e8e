"""Pretrain BERT with masked language modelling and next-sentence prediction, once per run.

The experiment of Section 7.1 at any size: the runs of one configuration share corpus, seeds, order
of the data and validation masks, and differ in what they override. See configs/quickstart.yaml.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch.utils.data import Dataset, Subset
from transformers import (
    BertConfig,
    BertForPreTraining,
    ProgressCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    default_data_collator,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from sift_trainer import SiftCallback, SiftTrainer, SiftTrainingArguments
from sift_trainer.arguments import sift_settings
from sift_trainer.config import Config, ConfigError, parse_config
from sift_trainer.data.documentation import prepare_documentation
from sift_trainer.data.masking import PairCollator, fixed_masks
from sift_trainer.early_exit.adapter import check_exit
from sift_trainer.metrics import predicted_ids, pretraining_metrics
from sift_trainer.plots import plot_accuracy, require_matplotlib
from sift_trainer.report import Run, summarize, write_json, write_report
from sift_trainer.validation import check_steps


@dataclass
class ModelArguments:
    """Shape of the BERT that is trained from scratch; the defaults are BERT-base, the paper's."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    attn_implementation: Literal["sdpa", "eager"] = "sdpa"

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} does not divide into num_attention_heads="
                f"{self.num_attention_heads}; use a multiple of {self.num_attention_heads}"
            )


def default_cache_dir() -> str:
    """Where prepared corpora are kept: `$XDG_CACHE_HOME/sift_trainer`, or `~/.cache/...`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(home) / "sift_trainer")


@dataclass
class DataArguments:
    """What is read, and how it is cut and masked."""

    corpus: Literal["documentation"] = field(
        default="documentation",
        metadata={"help": "documentation: docstrings of installed packages, needs no download."},
    )
    vocab_size: int = field(default=8192, metadata={"help": "Word pieces, trained on the corpus."})
    max_length: int = field(default=128, metadata={"help": "Tokens of a row, special ones too."})
    mask_probability: float = field(default=0.15, metadata={"help": "Share of tokens to predict."})
    validation_samples: int | None = field(
        default=None, metadata={"help": "Rows to evaluate on; all if unset."}
    )
    validation_seed: int = field(default=0, metadata={"help": "Of the fixed validation masks."})
    cache_dir: str = field(
        default_factory=default_cache_dir, metadata={"help": "Where the prepared corpus is kept."}
    )

    def __post_init__(self) -> None:
        if self.validation_samples is not None and self.validation_samples < 1:
            raise ValueError(
                f"validation_samples={self.validation_samples} must be 1 or more, such as 1000"
            )


class PretrainingData(NamedTuple):
    """What every run of a configuration shares."""

    vocab_size: int
    pad_token_id: int
    collator: PairCollator
    train: Dataset[Any]
    validation: Dataset[Any]


class SiftProgress(ProgressCallback):
    """A bar with loss, last accuracy and sifting overhead, in place of printed log lines."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        self.shown: dict[str, str] = {}
        if self.training_bar is not None:
            self.training_bar.set_description(args.run_name)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = logs or {}
        if "loss" in logs:
            self.shown["loss"] = f"{logs['loss']:.3f}"
            self.shown["sifting"] = f"+{logs['sift/overhead']:.1%}"
        if "eval_mlm_accuracy" in logs:
            self.shown["accuracy"] = f"{logs['eval_mlm_accuracy']:.4f}"
        if self.training_bar is not None:
            self.training_bar.set_postfix(self.shown)


def main(argv: Sequence[str]) -> list[Run]:
    """Train every run of the configuration; write and print what they reached.

    The main process writes, into `output_dir`, a folder per run with `results.json`,
    `trainer_state.json` and the reporters' logs, and over all runs `table.md`, `results.json` and
    a figure named after the folder. `--resume_from_checkpoint` takes the path of a checkpoint, or
    `latest`: then every run goes on from its last one, if it has any.

    Raises `ConfigError` before data or model are touched, `ImportError` for a missing extra.
    """
    config = parse_config((ModelArguments, DataArguments, SiftTrainingArguments), argv)
    check(config)
    require_matplotlib()

    _, data_args, shared = config.instances
    output = Path(shared.output_dir)
    with shared.main_process_first(desc="the corpus"):
        data = load_data(data_args, seed=shared.seed, progress=shared.process_index == 0)
    runs = []
    for name, (model_args, _, args) in config.runs.items():
        args.output_dir = str(output / name)
        args.run_name = args.run_name or name
        runs.append(train(name, model_args, data, args))
    if shared.process_index == 0:
        print(write_report(output, runs, {"data": asdict(data_args)}))
        plot_accuracy(runs, output / f"{output.resolve().name}.png")
    return runs


def load_data(args: DataArguments, seed: int, progress: bool = True) -> PretrainingData:
    """The prepared corpus, with validation rows that are masked once and for all.

    `seed` is that of the training masks, which are a function of it and the rows of a batch.
    """
    prepared = prepare_documentation(
        args.cache_dir, args.vocab_size, args.max_length, progress=progress
    )
    collator = PairCollator(prepared.tokenizer, args.max_length, args.mask_probability, seed)
    rows: Dataset[Any] = prepared.validation
    if args.validation_samples is not None:
        rows = Subset(rows, range(min(args.validation_samples, len(prepared.validation))))
    validation = fixed_masks(rows, collator, args.validation_seed)
    size, padding = len(prepared.tokenizer), int(prepared.tokenizer.pad_token_id)
    return PretrainingData(size, padding, collator, prepared.train, validation)


def build_model(args: ModelArguments, data: PretrainingData) -> BertForPreTraining:
    """A freshly initialized model; call `set_seed` before for the same one again."""
    vocabulary = {"vocab_size": data.vocab_size, "pad_token_id": data.pad_token_id}
    return BertForPreTraining(BertConfig(**vocabulary, **asdict(args)))


def train(
    name: str, model_args: ModelArguments, data: PretrainingData, args: SiftTrainingArguments
) -> Run:
    """One run from scratch, or from a checkpoint, to its last evaluation."""

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return default_data_collator(rows) if "labels" in rows[0] else data.collator(rows)

    set_seed(args.seed)
    trainer = SiftTrainer(
        model=build_model(model_args, data),
        args=args,
        data_collator=collate,
        train_dataset=data.train,
        eval_dataset=data.validation,
        compute_metrics=pretraining_metrics(),
        preprocess_logits_for_metrics=predicted_ids,
    )
    if not args.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        sift_callback = trainer.pop_callback(SiftCallback)
        trainer.add_callback(SiftProgress)  # before the one that prints when training ends
        trainer.add_callback(sift_callback)
    trainer.train(resume_from_checkpoint=_checkpoint(args))
    history, last = trainer.state.log_history, trainer.state.global_step
    if not any("eval_loss" in line and line["step"] == last for line in history):
        trainer.evaluate()
    trainer.save_state()
    run = summarize(name, history)
    if trainer.is_world_process_zero():
        result = {"sift": sift_settings(args), "model": asdict(model_args), "run": asdict(run)}
        write_json(Path(args.output_dir) / "results.json", result)
    return run


def _checkpoint(args: SiftTrainingArguments) -> str | None:
    wanted: str | None = args.resume_from_checkpoint
    if wanted == "latest":
        folder = Path(args.output_dir)
        wanted = get_last_checkpoint(folder) if folder.is_dir() else None
    return wanted


def check(config: Config) -> None:
    """Refuse what no field can see by itself, for every run, before the first one starts."""
    shared_data = config.instances[1]
    for name, (model_args, data_args, args) in config.runs.items():
        if data_args != shared_data:
            raise ConfigError(f"run {name!r} changes the data, which all runs share; set it above")
        if data_args.max_length > model_args.max_position_embeddings:
            raise ConfigError(
                f"run {name!r}: max_length={data_args.max_length} is above max_position_embeddings="
                f"{model_args.max_position_embeddings}; use at most that many tokens"
            )
        checkpoint = args.resume_from_checkpoint
        if checkpoint not in (None, "latest") and len(config.runs) > 1:
            raise ConfigError(
                f"resume_from_checkpoint={checkpoint!r} fits one of {len(config.runs)} runs; add "
                f"--runs {name}, or use 'latest'"
            )
        try:
            if args.sift_keep_ratio < 1:
                depth = model_args.num_hidden_layers
                check_exit(args.sift_exit_layer, depth, BertForPreTraining.__name__)
            if args.max_steps > 0:
                check_steps(args, args.max_steps)
        except ValueError as error:
            raise ConfigError(f"run {name!r}: {error}") from error
