"""Which columns of a dataset hold texts, images and labels."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sift_trainer.model_and_dataset.arguments import ModelAndDataset

Kind = Literal["text", "image", "class", "other"]

_WHOLE = ("int", "uint", "bool")


def kinds_of(data: Any) -> dict[str, Kind]:
    """Column -> what it holds, by the dataset's features or else by its first row."""
    if data.features is None:  # streamed CSV and text have none
        first = next(iter(data))
        return {name: _kind_of_value(value) for name, value in first.items()}
    return {name: _kind_of_feature(feature) for name, feature in data.features.items()}


def text_column(source: ModelAndDataset, kinds: Mapping[str, Kind]) -> str:
    """Of texts for language modelling; raises `ValueError` where it is not clear."""
    return _column("text_column", source.text_column, kinds, ("text",), ("text",))


def text_columns(
    source: ModelAndDataset, kinds: Mapping[str, Kind], label: str
) -> tuple[str, str | None]:
    """Of texts to be classified, and of their second ones; None where there are none.

    Raises:
        ValueError: where it is not clear.
    """
    others = {name: kind for name, kind in kinds.items() if name != label}
    if source.text_column is None and {"sentence1", "sentence2"} <= set(others):
        return "sentence1", "sentence2"
    text = _column("text_column", source.text_column, others, ("text", "sentence"), ("text",))
    pair = source.text_pair_column
    if pair is not None:
        pair = _column("text_pair_column", pair, others, (), ("text",))
    return text, pair


def label_column(source: ModelAndDataset, kinds: Mapping[str, Kind]) -> str:
    """Of class ids or names; raises `ValueError` where it is not clear."""
    return _column("label_column", source.label_column, kinds, ("label", "labels"), ("class",))


def image_column(source: ModelAndDataset, kinds: Mapping[str, Kind]) -> str:
    """Of images; raises `ValueError` where it is not clear."""
    return _column("image_column", source.image_column, kinds, ("image", "img"), ("image",))


def _column(
    field: str,
    given: str | None,
    kinds: Mapping[str, Kind],
    usual: Sequence[str],
    wanted: Sequence[Kind],
) -> str:
    if given is not None:
        if given not in kinds:
            raise ValueError(f"{field}={given!r} is not there; the columns are {', '.join(kinds)}")
        return given
    for name in usual:
        if name in kinds:
            return name
    candidates = [name for name, kind in kinds.items() if kind in wanted]
    if len(candidates) == 1:
        return candidates[0]
    found = "none is clearly it"
    if candidates:
        found = f"it could be {' or '.join(candidates)}"
    raise ValueError(
        f"{field} is not given, and {found}; the columns are {', '.join(kinds)}; write for example "
        f"--{field} {(candidates or [*kinds])[0]}"
    )


def _kind_of_value(value: Any) -> Kind:
    if isinstance(value, str):
        return "text"
    return "class" if isinstance(value, int) else "other"


def _kind_of_feature(feature: Any) -> Kind:
    if type(feature).__name__ == "Image":
        return "image"
    if type(feature).__name__ == "ClassLabel":
        return "class"
    dtype = str(getattr(feature, "dtype", ""))
    if dtype in ("string", "large_string"):
        return "text"
    return "class" if dtype.startswith(_WHOLE) else "other"
