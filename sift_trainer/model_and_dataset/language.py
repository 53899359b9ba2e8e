"""Texts as blocks of equal length, for language modelling."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch

_CHARACTERS = 500_000  # of texts that are tokenized in one call
_TEXTS = 1000


def blocks_of(
    data: Any, column: str, tokenizer: Any, size: int, wanted: int, labelled: bool, seed: int
) -> tuple[Any, list[str]]:
    """Rows of ``size`` tokens, and a note on how much of the dataset they are.

    Texts are joined and cut, with no regard to where one ends, as Transformers' example scripts do
    it. They are read from the front until there are enough: the rest is neither read nor tokenized.

    Args:
        wanted: the most rows that are made; of more, so many at random.
        labelled: whether a row's labels are its tokens; else a collator masks some.
        seed: of the draw.

    Raises:
        ValueError: for a value that is no text, or if all texts together make no two rows.
    """
    from datasets import Dataset

    rows: dict[str, list[list[int]]] = {}
    rest: dict[str, list[int]] = {}
    texts = made = 0
    whole = True
    for group in _groups(data, column):
        if made >= wanted:
            whole = False
            break
        encoded = tokenizer(group, verbose=False)  # that texts are longer than the model is no news
        texts += len(group)
        for name, values in encoded.items():
            joined = [*rest.get(name, ()), *chain.from_iterable(values)]
            end = len(joined) // size * size
            cut = (joined[start : start + size] for start in range(0, end, size))
            rows.setdefault(name, []).extend(cut)
            rest[name] = joined[end:]
        made = len(rows["input_ids"])
    if made < 2:
        raise ValueError(
            f"max_length={size} tokens: the {texts} texts of column {column!r} are no more than "
            f"{made} such blocks; use a smaller --max_length, or more data"
        )
    note = f"data: {min(made, wanted):,} blocks of {size} tokens"
    if made > wanted:
        draw = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(made, generator=draw)[:wanted].tolist()
        rows = {name: [values[row] for row in drawn] for name, values in rows.items()}
        note += f", drawn at random from {made:,},"
    if labelled:
        rows["labels"] = [list(block) for block in rows["input_ids"]]
    note += f" of {'all' if whole else 'the first'} {texts:,} texts in column {column}"
    return Dataset.from_dict(rows), [note if whole else f"{note}; those behind were not prepared"]


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
