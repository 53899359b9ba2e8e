"""Next-sentence pairs, as in the data preparation of BERT (Devlin et al., 2019, appendix A.2)."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from sentencex import segment

Sentence = Sequence[int]
SPECIAL_PER_PAIR = 3  # [CLS] A [SEP] B [SEP]
MIN_LENGTH = 8


class Pair(NamedTuple):
    """Two segments of token ids without special tokens; `is_random`: B is from another document."""

    first: list[int]
    second: list[int]
    is_random: bool


def sentences(document: str) -> list[str]:
    """The sentences of an English text, stripped, without empty ones.

    White space must follow a sentence: sentencex alone would split ``torch.nn.Linear``.
    """
    found: list[str] = []
    for part in segment("en", document):
        if found and not found[-1][-1].isspace():
            found[-1] += part
        elif part:
            found.append(part)
    stripped = (sentence.strip() for sentence in found)
    return [sentence for sentence in stripped if sentence]


def sentence_pairs(
    documents: Sequence[Sequence[Sentence]],
    max_length: int,
    short_fraction: float = 0.1,
    *,
    generator: np.random.Generator,
) -> Iterator[Pair]:
    """Packs the sentences of every document into pairs of segments for next-sentence prediction.

    Consecutive sentences fill a chunk up to ``max_length - 3`` tokens, or up to a shorter random
    target in `short_fraction` of the documents. A chunk is cut into A and B at a random sentence
    border. With probability 0.5, and always if it has only one sentence, B is read from a random
    place of another document instead, and the sentences that B would have had are packed again. The
    longer segment then loses tokens at its front or back until both fit.

    Args:
        documents: documents of sentences of token ids. Empty sentences are skipped.
        max_length: tokens of a finished row, the three special ones included.
        generator: the only source of randomness: the same state gives the same pairs.

    Raises:
        ValueError: fewer than two documents have a token.
    """
    kept = [[sentence for sentence in document if len(sentence)] for document in documents]
    kept = [document for document in kept if document]
    if len(kept) < 2:
        raise ValueError(
            f"a shard has {len(kept)} documents with text, and a random B needs at least 2; use "
            "fewer shards or a larger validation_fraction"
        )
    longest = max_length - SPECIAL_PER_PAIR
    for index, document in enumerate(kept):
        is_short = generator.random() < short_fraction
        target = int(generator.integers(2, longest + 1)) if is_short else longest
        start = 0
        while start < len(document):
            stop = _chunk_end(document, start, target)
            border = stop if stop - start == 1 else int(generator.integers(start + 1, stop))
            first = list(chain.from_iterable(document[start:border]))
            is_random = border == stop or generator.random() < 0.5
            if is_random:
                drawn = int(generator.integers(len(kept) - 1))
                other = kept[drawn + (drawn >= index)]  # never the document itself
                begin = int(generator.integers(len(other)))
                end = _chunk_end(other, begin, target - len(first))
                second = list(chain.from_iterable(other[begin:end]))
                start = border  # B's own sentences are put back
            else:
                second = list(chain.from_iterable(document[border:stop]))
                start = stop
            yield Pair(*_truncate(first, second, longest, generator), is_random)


def _chunk_end(document: list[Sentence], start: int, target: int) -> int:
    """End of the shortest run of sentences from `start` with `target` tokens; at least one."""
    length, stop = len(document[start]), start + 1
    while length < target and stop < len(document):
        length += len(document[stop])
        stop += 1
    return stop


def _truncate(
    first: list[int], second: list[int], longest: int, generator: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Takes tokens off the longer segment, each from a random end, until both fit in `longest`.

    How many come off the front of a segment is binomial. Of equally long ones the second is cut.
    """
    excess = len(first) + len(second) - longest
    if excess <= 0:
        return first, second
    difference = len(first) - len(second)
    levelling = min(excess, abs(difference))
    rest = excess - levelling
    from_first = rest // 2 + (levelling if difference > 0 else 0)
    return _shorten(first, from_first, generator), _shorten(second, excess - from_first, generator)


def _shorten(segment: list[int], count: int, generator: np.random.Generator) -> list[int]:
    if not count:
        return segment
    front = int(generator.binomial(count, 0.5))
    return segment[front : len(segment) - (count - front)]
