"""Pre-train BERT as in Section 7.1 of the paper, once per run of a configuration."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset, Subset
from transformers import BertConfig, BertForPreTraining, TrainerCallback, default_data_collator

from sift_trainer import SiftTrainingArguments
from sift_trainer.reproduction.bert.arguments import KINDS, Settings, check
from sift_trainer.reproduction.bert.dry_run import Plan
from sift_trainer.reproduction.bert.evaluation import PretrainingTrainer
from sift_trainer.reproduction.configuration import config_errors, parse_config
from sift_trainer.reproduction.corpus.corpus import (
    TRAIN,
    VOCAB_SIZE,
    CorpusArguments,
    load_corpus,
    settings_of,
)
from sift_trainer.reproduction.corpus.masking import FixedMasks, PairCollator
from sift_trainer.reproduction.corpus.preparation import ShareArguments, prepare_corpus, prepared
from sift_trainer.reproduction.report.history import Run
from sift_trainer.reproduction.runs.metrics import pretraining_metrics
from sift_trainer.reproduction.runs.training import Experiment, train_runs


class PretrainingData(NamedTuple):
    """What every run of a configuration shares."""

    collator: PairCollator
    train: Dataset[Any]
    validation: Dataset[Any]
    statistics: dict[str, Any]


@dataclass(frozen=True)
class CollatorOfBoth:
    """Masks training rows, and stacks validation rows, which are masked already."""

    masking: PairCollator

    @property
    def labels_per_row(self) -> int | None:
        return self.masking.masks_per_row

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return default_data_collator(rows) if "labels" in rows[0] else self.masking(rows)


def main(argv: Sequence[str]) -> list[Run]:
    """Train every run of the configuration, see `train_runs`; with `--dry_run` print their costs.

    Raises:
        ConfigError: before data or model are touched.
    """
    plans = any(flag.startswith("--dry_run") for flag in argv)
    if plans and not torch.accelerator.is_available():
        # Without a GPU bf16 is refused, but a login node can plan for one.
        argv = [*argv, "--use_cpu", "true"]
    config = parse_config(KINDS, argv)
    check(config)
    shared = Settings(*config.instances)
    if not shared.job.dry_run:
        return train_runs(PRETRAINING, config)
    if shared.args.process_index == 0:
        with config_errors():
            print("\n\n".join(dry_run(name, Settings(*run)) for name, run in config.runs.items()))
    return []


def prepare(argv: Sequence[str]) -> None:
    """Prepare the corpus of a configuration, or one job's share of it; raises `ConfigError`."""
    own = (CorpusArguments, ShareArguments)
    config = parse_config(own, argv, ignored=[kind for kind in KINDS if kind not in own])
    corpus, share = config.instances
    with config_errors():
        print(prepare_corpus(corpus, share))


def load_data(settings: Settings) -> PretrainingData:
    """The prepared corpus, with validation rows whose masks never change.

    Raises:
        ConfigError: if the corpus is not what the configuration says.
    """
    data, main = settings.data, settings.args.local_process_index == 0
    with config_errors():
        if settings.job.prepare and main:
            corpus = prepared(settings.corpus)
        else:
            corpus = load_corpus(settings.corpus, checksums=main)
        collator = PairCollator(
            corpus.tokenizer,
            settings.corpus.max_length,
            data.mask_probability,
            settings.args.seed,
            data.masks_per_row,
        )
        rows: Dataset[Any] = corpus.validation
        if data.validation_samples is not None:
            rows = Subset(rows, range(min(data.validation_samples, len(corpus.validation))))
        validation = FixedMasks(rows, collator, data.validation_seed)
    return PretrainingData(collator, corpus.train, validation, corpus.statistics)


def dry_run(name: str, settings: Settings) -> str:
    """What a run takes, from its configuration and, if it is prepared, its corpus."""
    corpus_args, config = settings.corpus, BertConfig(**asdict(settings.model))
    if corpus_args.vocab_size is not None or corpus_args.tokenizer == TRAIN:
        config.vocab_size = corpus_args.vocab_size or VOCAB_SIZE
    rows, share = None, settings.data.mask_probability
    with suppress(ValueError):  # not prepared yet
        corpus = load_corpus(corpus_args, checksums=False)
        rows, config.vocab_size = len(corpus.train), len(corpus.tokenizer)
    if settings.data.masks_per_row is not None:
        share = settings.data.masks_per_row / corpus_args.max_length
    processes = settings.launch.world_size or settings.args.world_size
    return str(Plan(name, config, settings.args, corpus_args.max_length, share, processes, rows))


def build_trainer(
    settings: Settings,
    data: PretrainingData,
    args: SiftTrainingArguments,
    callbacks: list[TrainerCallback],
) -> PretrainingTrainer:
    """The trainer of a run, with a freshly initialized model."""
    tokenizer = data.collator.tokenizer
    vocabulary = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    return PretrainingTrainer(
        model=BertForPreTraining(BertConfig(**vocabulary, **asdict(settings.model))),
        args=args,
        data_collator=CollatorOfBoth(data.collator),
        train_dataset=data.train,
        eval_dataset=data.validation,
        compute_metrics=pretraining_metrics(),
        callbacks=callbacks,
    )


def describe(settings: Settings, data: PretrainingData) -> dict[str, Any]:
    """A run as plain data."""
    return {
        "model": {**asdict(settings.model), "vocab_size": len(data.collator.tokenizer)},
        "corpus": {**settings_of(settings.corpus), "statistics": data.statistics},
        "data": asdict(settings.data),
    }


PRETRAINING = Experiment(KINDS, Settings, check, load_data, build_trainer, describe)
