"""The regimes of `time_to_accuracy.py`: what is trained on what, as plain settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Regime:
    """One setting in which methods are compared.

    Attributes:
        title: in a few words.
        kind: name in `training.KINDS`.
        data: arguments of the data.
        model: shape.
        steps: the budget, in steps that do not sift.
        learning_rate: a run's learning rate is a factor of it.
        batch_size: rows trained on in a step.
        plain: sift fields of a step that does not sift, in addition to a keep ratio of 1.
        pretrained: a regime of the same shape without sifting; runs start with its base model.
    """

    title: str
    kind: str
    data: Mapping[str, Any]
    model: Mapping[str, Any]
    steps: int
    learning_rate: float
    batch_size: int = 32
    plain: Mapping[str, Any] = field(default_factory=dict)
    pretrained: "Regime | None" = None


def _changed(regime: Regime, title: str, **changes: Any) -> Regime:
    """A regime with other data or another model."""
    of_model = ("supervised", "hidden_sizes", "embedding_size")
    model = {name: changes.pop(name) for name in of_model if name in changes}
    data, shape = {**regime.data, **changes}, {**regime.model, **model}
    return replace(regime, title=title, data=data, model=shape)


_MASKED = Regime(
    "masked word pieces, less than one pass",
    "masked",
    data={"rows": 100_000, "validation_rows": 300},
    model={"hidden_size": 64, "num_hidden_layers": 4},
    steps=300,
    learning_rate=4e-3,
    plain={"sift_masked_only_head": True},
)
_CAUSAL = replace(
    _MASKED,
    title="the next word piece, less than one pass",
    kind="causal",
    data={"rows": 12_000, "validation_rows": 300},
    batch_size=16,
    plain={},
)
_COPIES = _changed(
    _CAUSAL, "the next word piece, three quarters of the rows copies of 100", rows=4000, copies=0.75
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
_FLIPPED = _changed(_AUTHORS, "authors, a fifth of the labels wrong", flips=0.2)
_RARE_AUTHORS = _changed(
    _AUTHORS, "8 authors in a tenth of the rows, Wikipedia in the rest", rows=400, background=28_800
)
_PRETRAINED = replace(
    _AUTHORS,
    title="authors, fine-tuning a model pretrained on the next word piece",
    kind="causal_passages",
    learning_rate=1e-3,
    pretrained=replace(_CAUSAL, steps=2000, learning_rate=2e-3),
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
_25_PASSES = _changed(_IMAGES, "10 classes of 50 images, not augmented", rows=50, augmented=False)
_RARE_IMAGES = _changed(
    _IMAGES,
    "9 classes in a quarter of the rows, landscapes and trees in the rest; the early classifier "
    "has its own loss",
    rows=400,
    classes=list(range(9)),
    background=[23, 33, 49, 60, 71, 47, 52, 56, 59, 96],
    background_rows=10_800,
    supervised=0.5,
)

REGIMES: dict[str, Regime] = {
    "masked": _MASKED,
    "masked_128": replace(
        _MASKED,
        title="masked word pieces, 4 blocks of width 128 at length 128",
        data={**_MASKED.data, "rows": 80_000, "vocabulary": 8192, "length": 128},
        model={"hidden_size": 128, "num_hidden_layers": 4, "max_position_embeddings": 128},
        steps=1000,
        learning_rate=1.5e-3,
    ),
    "causal": _CAUSAL,
    "causal_5_passes": _changed(_CAUSAL, "the next word piece, 5 passes", rows=960),
    "causal_25_passes": _changed(_CAUSAL, "the next word piece, 25 passes", rows=192),
    "causal_copies": _COPIES,
    "authors": _AUTHORS,
    "authors_flipped": _FLIPPED,
    "authors_pretrained": _PRETRAINED,
    "authors_pretrained_flipped": _changed(
        _PRETRAINED, "the same, a fifth of the labels wrong", flips=0.2
    ),
    "authors_long_tail_few": _changed(
        _AUTHORS, "8 authors with 1,500 passages down to 30", rows=1500, tail=0.02
    ),
    "authors_in_background": _RARE_AUTHORS,
    "authors_in_background_even": _changed(
        _RARE_AUTHORS, "the same, novels repeated until they are as frequent", even=True
    ),
    "images": _IMAGES,
    "images_few_passes": _changed(_IMAGES, "10 classes of 500 images", rows=500),
    "images_25_passes": _25_PASSES,
    "images_25_passes_narrow": _changed(
        _25_PASSES, "the same, half as wide", hidden_sizes=[8, 12, 32, 64], embedding_size=8
    ),
    "images_25_passes_wide": _changed(
        _25_PASSES, "the same, twice as wide", hidden_sizes=[32, 48, 128, 256], embedding_size=32
    ),
    "images_supervised": _changed(
        _IMAGES, "images, the early classifier has its own loss", supervised=0.5
    ),
    "images_in_background": _RARE_IMAGES,
    "images_in_background_plain": _changed(
        _RARE_IMAGES, "the same without the early classifier's own loss", supervised=0.0
    ),
    "images_in_background_even": _changed(
        _RARE_IMAGES, "the same, rare images repeated until all are as frequent", even=True
    ),
    "images_long_tail_supervised": _changed(
        _IMAGES,
        "10 classes of 500 images down to 10; the early classifier has its own loss",
        rows=500,
        tail=0.02,
        supervised=0.5,
    ),
}
LONG = (
    *("causal_copies", "authors", "authors_flipped", "authors_pretrained"),
    *("images", "images_in_background"),
)
"""Regimes that are also run with four times the budget, where audits every 100 steps are cheap."""

REGIMES |= {
    f"{name}_long": replace(
        REGIMES[name], title=f"{name}, four times as long", steps=4 * REGIMES[name].steps
    )
    for name in LONG
}
