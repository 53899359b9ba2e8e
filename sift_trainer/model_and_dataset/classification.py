"""Texts and images with their classes, of some rows of a dataset."""

from collections.abc import Callable
from typing import Any

import torch

from sift_trainer.model_and_dataset.class_labels import Classes


def chosen_rows(data: Any, wanted: int, seed: int) -> tuple[Any, list[str]]:
    """``wanted`` rows at random, as many datasets are sorted by class; and a note on it."""
    count = len(data)
    if count <= wanted:
        return data, [f"data: all {count:,} rows"]
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randperm(count, generator=draw)[:wanted].tolist()
    return data.select(rows, keep_in_memory=True), [
        f"data: {wanted:,} rows drawn at random from {count:,}; the others were not prepared"
    ]


def texts_with_classes(
    data: Any,
    text: str,
    pair: str | None,
    label: str,
    tokenizer: Any,
    max_length: int | None,
    classes: Classes,
) -> Any:
    """Tokenized rows, each as long as it is, for a collator that pads.

    Raises:
        ValueError: for a value that is no text.
    """
    from datasets import Dataset

    columns = [list(data[name]) for name in (text, pair) if name is not None]
    for name, values in zip(("text_column", "text_pair_column"), columns, strict=False):
        for value in values:
            if not isinstance(value, str):
                raise ValueError(f"{name} holds {value!r:.60}, which is no text")
    encoded = tokenizer(*columns, truncation=max_length is not None, max_length=max_length)
    return Dataset.from_dict({**encoded, "labels": classes.of(data[label])})


def images_with_classes(data: Any, image: str, label: str, processor: Any, classes: Classes) -> Any:
    """Rows whose images are decoded and made into ``pixel_values`` when they are asked for."""
    from datasets import Image

    if type(data.features[image]).__name__ != "Image":  # paths, or bytes that nobody has declared
        data = data.cast_column(image, Image())

    def prepare(rows: dict[str, list[Any]]) -> dict[str, Any]:
        pictures = [picture.convert("RGB") for picture in rows[image]]
        pixels = processor(pictures, return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "labels": classes.of(rows[label])}

    transform: Callable[[dict[str, list[Any]]], dict[str, Any]] = prepare
    return data.select_columns([image, label]).with_transform(transform)
