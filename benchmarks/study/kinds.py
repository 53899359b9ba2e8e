"""Kinds of regimes of `time_to_accuracy.py`: data, model, trainer and metrics of a regime."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import set_seed

from sift_trainer import SiftTrainer, SiftTrainingArguments
from sift_trainer.reproduction.bert.evaluation import PretrainingTrainer
from sift_trainer.reproduction.resnet.job import ImageClassificationTrainer
from sift_trainer.reproduction.runs.metrics import pretraining_metrics
from study.data import StudyData
from study.images import images
from study.metrics import class_metrics, next_token_metrics
from study.models import causal_classifier, causal_model, classifier, masked_model, resnet
from study.text import lines, pairs, passages
from study.variants import learn_surprisals


class EvaluatesAllRows:
    """A trainer whose evaluation has a short last batch, and whose training has none."""

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        before, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            return super().get_eval_dataloader(*args, **kwargs)
        finally:
            self.args.dataloader_drop_last = before


class StudyTrainer(EvaluatesAllRows, SiftTrainer):
    """For text."""


class MaskedTrainer(EvaluatesAllRows, PretrainingTrainer):
    """For masked word pieces."""


class ImageTrainer(EvaluatesAllRows, ImageClassificationTrainer):
    """For images: one cycle of the learning rate."""


@dataclass(frozen=True)
class Kind:
    """What regimes of one kind have in common.

    Attributes:
        load: their data, of a folder with the originals, a cache, and the regime's ``data``.
        build: a model of a shape, for so many classes.
        trainer: the class of trainer.
        metrics: makes ``compute_metrics``.
        accuracy: its name in an evaluation.
        ids: whether the trainer's predictions have to become class ids first.
        schedule: fields of the learning rate's decay, to zero at the end of every run.
    """

    load: Callable[..., StudyData]
    build: Callable[[Mapping[str, Any], int], nn.Module]
    trainer: type[SiftTrainer] = StudyTrainer
    metrics: Callable[[], Callable[..., dict[str, float]]] = class_metrics
    accuracy: str = "accuracy"
    ids: bool = True
    schedule: Mapping[str, Any] = field(
        default_factory=lambda: {"lr_scheduler_type": "linear", "warmup_steps": 0.1}
    )


@dataclass(frozen=True)
class Regime:
    """One setting in which methods are compared.

    Attributes:
        title: in a few words.
        kind: name in `KINDS`.
        data: arguments of the data.
        model: shape.
        steps: the budget, in steps that do not sift.
        learning_rate: that run's learning rate factors are of.
        batch_size: rows trained on in a step.
        plain: sift fields of a step that does not sift, beside a keep ratio of 1.
        args: further training arguments.
        pretrained: a regime of the same shape, without sifting, whose base model runs begin with.
    """

    title: str
    kind: str
    data: Mapping[str, Any]
    model: Mapping[str, Any]
    steps: int
    learning_rate: float
    batch_size: int = 32
    plain: Mapping[str, Any] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)
    pretrained: "Regime | None" = None


KINDS = {
    "masked": Kind(
        pairs,
        masked_model,
        MaskedTrainer,
        pretraining_metrics,
        accuracy="mlm_accuracy",
        ids=False,
    ),
    "causal": Kind(lines, causal_model, metrics=next_token_metrics),
    "passages": Kind(passages, classifier),
    "causal_passages": Kind(passages, causal_classifier),
    "images": Kind(images, resnet, ImageTrainer, schedule={}),
}


def load(regime: Regime, data: Path, cache: Path) -> StudyData:
    """The data of a regime.

    Args:
        data: folder with ``books``, ``wikipedia`` and ``cifar-100``.
        cache: folder of what is made of them.
    """
    cache.mkdir(parents=True, exist_ok=True)
    made = KINDS[regime.kind].load(data, cache, **regime.data)
    if regime.kind == "causal":
        learn_surprisals(made.train, made.classes)
    if regime.pretrained is None:
        return made
    return replace(made, pretrained=pretrained(regime.pretrained, data, cache))


def pretrained(regime: Regime, data: Path, cache: Path) -> Path:
    """File with the base model's weights after a run without sifting, which is made once."""
    told = json.dumps(asdict(regime), sort_keys=True)
    file = cache / f"pretrained_{blake2b(told.encode(), digest_size=8).hexdigest()}.pt"
    if not file.is_file():
        plain = {"sift_keep_ratio": 1.0, "max_steps": regime.steps, "seed": 0}
        made = build_trainer(regime, load(regime, data, cache), arguments(regime, cache, **plain))
        made.train()
        weights = {name: value.cpu() for name, value in made.model.base_model.state_dict().items()}
        whole = file.with_suffix(".part")
        torch.save(weights, whole)
        whole.replace(file)
    return file


def build_trainer(
    regime: Regime, data: StudyData, args: SiftTrainingArguments, mixin: type | None = None
) -> SiftTrainer:
    """A trainer with a freshly initialized model, by the seed of ``args``; of a pretrained one only
    the head is.

    Args:
        mixin: of a method, see `Method`.
    """
    kind = KINDS[regime.kind]
    set_seed(args.seed)
    to_ids: Any = (lambda logits, labels: logits.argmax(-1)) if kind.ids else None
    made = kind.trainer if mixin is None else type(mixin.__name__, (mixin, kind.trainer), {})
    model = kind.build(regime.model, data.classes)
    if data.pretrained is not None:
        model.base_model.load_state_dict(torch.load(data.pretrained))
    return made(
        model=model,
        args=args,
        data_collator=data.collator,
        train_dataset=data.train,
        eval_dataset=data.validation,
        compute_metrics=kind.metrics(),
        preprocess_logits_for_metrics=to_ids,
    )


def arguments(regime: Regime, folder: Path | str, **more: Any) -> SiftTrainingArguments:
    """Training arguments of a regime, with what a run adds."""
    return SiftTrainingArguments(
        str(folder),
        **{
            "per_device_train_batch_size": regime.batch_size,
            "per_device_eval_batch_size": 250,
            "learning_rate": regime.learning_rate,
            "weight_decay": 0.01,
            "optim": "adamw_torch",
            "batch_eval_metrics": True,
            "dataloader_drop_last": True,  # a step is charged as a whole one
            "dataloader_pin_memory": False,
            "report_to": [],
            "disable_tqdm": True,
            "logging_strategy": "no",
            "save_strategy": "no",
            **KINDS[regime.kind].schedule,
            **regime.args,
            **more,
        },
    )
