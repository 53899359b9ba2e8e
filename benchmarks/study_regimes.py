"""The regimes of `time_to_accuracy.py`: what is trained on what, as plain settings.

A regime names its data, a model's shape and the arguments of a run; its budget is counted in steps
that do not sift. What a run changes is its method, seed, budget and learning rate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from study_data import StudyData
from study_images import images
from study_metrics import class_metrics, next_token_metrics
from study_models import causal_model, classifier, masked_model, resnet
from study_text import lines, pairs, passages
from torch import nn
from transformers import set_seed

from sift_trainer import SiftTrainer, SiftTrainingArguments
from sift_trainer.image_classification.job import ImageClassificationTrainer
from sift_trainer.metrics import pretraining_metrics
from sift_trainer.pretraining.job import PretrainingTrainer


class EvaluatesAllRows:
    """A trainer whose evaluation has a short last batch, and whose training has none."""

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        self.args.dataloader_drop_last = False
        try:
            return super().get_eval_dataloader(*args, **kwargs)
        finally:
            self.args.dataloader_drop_last = True


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
    "images": Kind(images, resnet, ImageTrainer, schedule={}),
}


def load(regime: Regime, data: Path, cache: Path) -> StudyData:
    """The data of a regime.

    Args:
        data: folder with ``books``, ``wikipedia`` and ``cifar-100``.
        cache: folder of what is made of them.
    """
    cache.mkdir(parents=True, exist_ok=True)
    return KINDS[regime.kind].load(data, cache, **regime.data)


def build_trainer(regime: Regime, data: StudyData, args: SiftTrainingArguments) -> SiftTrainer:
    """A trainer with a freshly initialized model, by the seed of ``args``."""
    kind = KINDS[regime.kind]
    set_seed(args.seed)
    to_ids: Any = (lambda logits, labels: logits.argmax(-1)) if kind.ids else None
    return kind.trainer(
        model=kind.build(regime.model, data.classes),
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


_AUTHORS = Regime(
    "which of 8 authors wrote a passage",
    "passages",
    data={"rows": 200, "validation_rows": 100, "classes": 8},
    model={"hidden_size": 64, "num_hidden_layers": 4},
    steps=250,
    learning_rate=2e-3,
    batch_size=24,
)
_IMAGES = Regime(
    "CIFAR-100, 10 classes of 100 images",
    "images",
    data={"rows": 100, "validation_rows": 100, "classes": list(range(10))},
    model={
        "depths": [1, 1, 2, 2],
        "hidden_sizes": [16, 24, 64, 128],
        "embedding_size": 16,
        "downsample_in_first_stage": True,
    },
    steps=400,
    learning_rate=1e-2,
)
_LONG_TAIL = {"rows": 500, "tail": 0.02}
_TEXT = Regime(
    "masked word pieces, one pass over the text",
    "masked",
    data={"rows": 100_000, "validation_rows": 300},
    model={"hidden_size": 64, "num_hidden_layers": 4},
    steps=300,
    learning_rate=4e-3,
    plain={"sift_masked_only_head": True},
)


def _changed(regime: Regime, title: str, **changes: Any) -> Regime:
    """A regime with other data, or with ``supervised`` another model."""
    model = {name: changes.pop(name) for name in ("supervised",) if name in changes}
    data, shape = {**regime.data, **changes}, {**regime.model, **model}
    return replace(regime, title=title, data=data, model=shape)


_AUTHORS_BACKGROUND = _changed(
    _AUTHORS, "8 authors in a tenth of the rows, Wikipedia in the rest", rows=400, background=28_800
)
_CAUSAL = replace(
    _TEXT,
    title="the next word piece, one pass over the text",
    kind="causal",
    data={"rows": 12_000, "validation_rows": 300},
    steps=300,
    batch_size=16,
    learning_rate=4e-3,
    plain={},
)

_IMAGES_BACKGROUND = _changed(
    _IMAGES,
    "9 classes of CIFAR-100 in a quarter of the rows, landscapes and trees in the rest, the early "
    "classifier with a loss of its own",
    rows=400,
    classes=list(range(9)),
    background=[23, 33, 49, 60, 71, 47, 52, 56, 59, 96],
    background_rows=10_800,
    supervised=0.5,
)
_COPIES = {"rows": 200, "copies": 0.75}

REGIMES: dict[str, Regime] = {
    "masked": _TEXT,
    "masked_25_passes": _changed(_TEXT, "masked word pieces, 25 passes", rows=384),
    "causal": _CAUSAL,
    "causal_copies": _changed(
        _CAUSAL, "the same, three quarters of the rows copies of 100", rows=4000, copies=0.75
    ),
    "authors": _AUTHORS,
    "authors_flipped": _changed(_AUTHORS, "the same, a fifth of the labels wrong", flips=0.2),
    "authors_long_tail_few": _changed(
        _AUTHORS, "8 authors with 1,500 passages down to 30", rows=1500, tail=0.02
    ),
    "authors_in_background": _AUTHORS_BACKGROUND,
    "authors_in_background_even": _changed(
        _AUTHORS_BACKGROUND, "the same, novels repeated until they are as frequent", even=True
    ),
    "images": _IMAGES,
    "images_supervised": _changed(
        _IMAGES, "the same, the early classifier with a loss of its own", supervised=0.5
    ),
    "images_copies": _changed(
        _IMAGES, "10 classes of 200 images, three quarters of the rows copies of 10", **_COPIES
    ),
    "images_copies_supervised": _changed(
        _IMAGES, "the same, the early classifier with a loss of its own", **_COPIES, supervised=0.5
    ),
    "images_in_background": _IMAGES_BACKGROUND,
    "images_in_background_plain": _changed(
        _IMAGES_BACKGROUND, "the same without a loss of the early classifier", supervised=0.0
    ),
    "images_in_background_even": _changed(
        _IMAGES_BACKGROUND, "the same, rare images repeated until all are as frequent", even=True
    ),
    "images_long_tail_supervised": _changed(
        _IMAGES,
        "10 classes of 500 images down to 10, the early classifier with a loss of its own",
        rows=500,
        tail=0.02,
        supervised=0.5,
    ),
}
