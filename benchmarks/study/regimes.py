"""The regimes of `time_to_accuracy.py`: what is trained on what, as plain settings.

A regime names its data, a model's shape and the arguments of a run; its budget is counted in steps
that do not sift. What a run changes is its method, seed, budget and learning rate.
"""

from dataclasses import replace
from typing import Any

from study.kinds import Regime

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
_PRETRAINED = replace(
    _AUTHORS,
    title="authors, fine-tuning a model pretrained on the next word piece",
    kind="causal_passages",
    learning_rate=1e-3,
    pretrained=replace(_CAUSAL, steps=2000, learning_rate=2e-3),
)
_BERT = replace(
    _TEXT,
    title="masked word pieces, 25 passes, BERT-mini at length 128",
    data={
        **{"rows": 40_000, "validation_rows": 1000, "vocabulary": 8192, "length": 128},
        "masks_per_row": 19,
    },
    model={
        **{"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4},
        "max_position_embeddings": 128,
    },
    steps=3900,
    learning_rate=1e-3,
    batch_size=256,
    args={"bf16": True, "dataloader_num_workers": 8},
)
_CAUSAL_COPIES = _changed(
    _CAUSAL, "the same, three quarters of the rows copies of 100", rows=4000, copies=0.75
)
_FLIPPED = _changed(_AUTHORS, "the same, a fifth of the labels wrong", flips=0.2)
_PASSES_25 = _changed(
    _IMAGES, "10 classes of 50 images as they are, 25 passes", rows=50, augmented=False
)


def _of_width(regime: Regime, title: str, times: float) -> Regime:
    """A residual net with so many times the channels."""
    model = dict(regime.model)
    model["hidden_sizes"] = [int(times * size) for size in model["hidden_sizes"]]
    model["embedding_size"] = int(times * model["embedding_size"])
    return replace(regime, title=title, model=model)


def _longer(regime: Regime, title: str) -> Regime:
    """Four times the budget: audits every 100 steps are a twenty-fifth of it."""
    return replace(regime, title=f"{title}, four times as long", steps=4 * regime.steps)


REGIMES: dict[str, Regime] = {
    "masked": _TEXT,
    "masked_128": replace(
        _TEXT,
        title="masked word pieces, less than one pass, 4 blocks of width 128 at length 128",
        data={**_TEXT.data, "rows": 80_000, "vocabulary": 8192, "length": 128},
        model={"hidden_size": 128, "num_hidden_layers": 4, "max_position_embeddings": 128},
        steps=1000,
        learning_rate=1.5e-3,
    ),
    "bert_mini_25_passes": _BERT,
    "bert_small_25_passes": replace(
        _BERT,
        title="the same, BERT-small",
        model={**_BERT.model, "hidden_size": 512, "num_attention_heads": 8},
        learning_rate=5e-4,
    ),
    "causal": _CAUSAL,
    "causal_5_passes": _changed(_CAUSAL, "the next word piece, 5 passes", rows=960),
    "causal_25_passes": _changed(_CAUSAL, "the next word piece, 25 passes", rows=192),
    "causal_copies": _CAUSAL_COPIES,
    "causal_copies_long": _longer(_CAUSAL_COPIES, "causal_copies"),
    "authors": _AUTHORS,
    "authors_long": _longer(_AUTHORS, "authors"),
    "authors_flipped": _FLIPPED,
    "authors_flipped_long": _longer(_FLIPPED, "authors_flipped"),
    "authors_pretrained": _PRETRAINED,
    "authors_pretrained_long": _longer(_PRETRAINED, "authors_pretrained"),
    "authors_pretrained_flipped": _changed(
        _PRETRAINED, "the same, a fifth of the labels wrong", flips=0.2
    ),
    "authors_long_tail_few": _changed(
        _AUTHORS, "8 authors with 1,500 passages down to 30", rows=1500, tail=0.02
    ),
    "authors_in_background": _AUTHORS_BACKGROUND,
    "authors_in_background_even": _changed(
        _AUTHORS_BACKGROUND, "the same, novels repeated until they are as frequent", even=True
    ),
    "images": _IMAGES,
    "images_long": _longer(_IMAGES, "images"),
    "images_few_passes": _changed(_IMAGES, "10 classes of 500 images, 2.6 passes", rows=500),
    "images_25_passes": _PASSES_25,
    "images_25_passes_narrow": _of_width(_PASSES_25, "the same, half as wide", 0.5),
    "images_25_passes_wide": _of_width(_PASSES_25, "the same, twice as wide", 2),
    "images_supervised": _changed(
        _IMAGES, "the same, the early classifier with a loss of its own", supervised=0.5
    ),
    "images_in_background": _IMAGES_BACKGROUND,
    "images_in_background_long": _longer(_IMAGES_BACKGROUND, "images_in_background"),
    "images_in_background_plain": _changed(
        _IMAGES_BACKGROUND,
        "images_in_background, without a loss of the early classifier",
        supervised=0.0,
    ),
    "images_in_background_even": _changed(
        _IMAGES_BACKGROUND,
        "images_in_background, rare images repeated until all are as frequent",
        even=True,
    ),
    "images_long_tail_supervised": _changed(
        _IMAGES,
        "10 classes of 500 images down to 10, the early classifier with a loss of its own",
        rows=500,
        tail=0.02,
        supervised=0.5,
    ),
}
