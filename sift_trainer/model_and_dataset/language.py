"""Texts as blocks of equal length, for language modelling."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

from sift_trainer.model_and_dataset.opening import is_streamed

_CHARACTERS = 500_000  # of texts that are tokenized in one call
_TEXTS = 1000


def blocks_of(
    data: Any, column: str, tokenizer: Any, size: int, wanted: int, labelled: bool
) -> tuple[Any, list[str]]:
    """Rows of ``size`` tokens, and a note on how much of the dataset they are.

    Texts are joined and cut, with no regard to where one ends, as Transformers' example scripts do
    it. They are read from the front until there are enough: the rest is neither read nor tokenized.

    Args:
        wanted: the most rows that are made.
        labelled: whether a row's labels are its tokens; else a collator masks some.

    Raises:
        ValueError: for a value that is no text, or if all texts together make no two rows.
    """
    from datasets import Dataset

    rows: dict[str, list[list[int]]] = {}
    rest: dict[str, list[int]] = {}
    texts = made = 0
    for group in _groups(data, column):
        encoded = tokenizer(group, verbose=False)  # that texts are longer than the model is no news
        texts += len(group)
        for name, values in encoded.items():
            joined = [*rest.get(name, ()), *chain.from_iterable(values)]
            end = len(joined) // size * size
            cut = (joined[start : start + size] for start in range(0, end, size))
            rows.setdefault(name, []).extend(cut)
            rest[name] = joined[end:]
        made = len(rows["input_ids"])
        if made >= wanted:
            break
    if made < 2:
        raise ValueError(
            f"max_length={size} tokens: the {texts} texts of column {column!r} are no more than "
            f"{made} such blocks; use a smaller --max_length, or more data"
        )
    rows = {name: values[:wanted] for name, values in rows.items()}
    if labelled:
        rows["labels"] = [list(block) for block in rows["input_ids"]]
    kept = min(made, wanted)
    whole = f"all {texts:,} texts" if made < wanted else f"the first {texts:,} texts"
    if made >= wanted and not is_streamed(data):
        whole += f" of {len(data):,}"
    unread = "" if made < wanted else "; what comes after them was not read"
    note = f"data: {kept:,} blocks of {size} tokens, cut from {whole} in column {column}{unread}"
    return Dataset.from_dict(rows), [note]


def _groups(data: Any, column: str) -> Iterator[list[str]]:
    """Texts in order, as many at once as a tokenizer is fast with."""
    group: list[str] = []
    characters = 0
    for text in _texts(data, column):
        if not isinstance(text, str):
            raise ValueError(f"text_column={column!r} holds {text!r:.60}, which is no text")
        group.append(text)
        characters += len(text)
        if characters >= _CHARACTERS or len(group) == _TEXTS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _texts(data: Any, column: str) -> Iterator[Any]:
    rows = iter(data.select_columns([column]))
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # readers and decompressors raise what they like
            why = error.__cause__ or error
            raise ValueError(f"the dataset cannot be read to its end: {why!r}") from error
        yield row[column]
