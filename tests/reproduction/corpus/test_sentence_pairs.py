"""Pairs are what BERT's preparation makes: every claim is checked on ids that tell where they are.

Token ``1000 * d + t`` is token t of document d, so a segment says where it was taken from.
"""

from itertools import pairwise

import numpy as np

from sift_trainer.reproduction.corpus import sentence_pairs as module
from sift_trainer.reproduction.corpus.sentence_pairs import Pair, sentence_pairs, sentences


def _documents(count: int = 50, seed: int = 0) -> list[list[list[int]]]:
    generator = np.random.default_rng(seed)
    documents = []
    for d in range(count):
        borders = np.cumsum(generator.integers(1, 25, size=generator.integers(2, 20)))
        edges = pairwise([0, *borders.tolist()])
        documents.append([list(range(1000 * d + a, 1000 * d + b)) for a, b in edges])
    return documents


def _pairs(documents: list[list[list[int]]], max_length: int = 64, **kwargs: float) -> list[Pair]:
    generator = np.random.default_rng(1)
    return list(sentence_pairs(documents, max_length, generator=generator, **kwargs))


def test_sentences_are_stripped_and_names_with_dots_stay_whole() -> None:
    text = "Dr. Smith  went home. He uses torch.nn.Linear there!\n\nA new paragraph.  \n\n"
    assert sentences(text) == [
        "Dr. Smith  went home.",
        "He uses torch.nn.Linear there!",
        "A new paragraph.",
    ]
    assert sentences(" \n\n ") == []


def test_segments_are_runs_of_one_document_and_fit() -> None:
    for pair in _pairs(_documents()):
        assert 2 <= len(pair.first) + len(pair.second) <= 61
        for segment in (pair.first, pair.second):
            assert segment
            assert segment == list(range(segment[0], segment[0] + len(segment)))
            assert segment[0] // 1000 == segment[-1] // 1000


def test_label_says_whether_b_follows_a() -> None:
    pairs = _pairs(_documents(), max_length=1000, short_fraction=0)  # nothing is truncated
    kinds = {True: 0, False: 0}
    for pair in pairs:
        kinds[pair.is_random] += 1
        same_document = pair.first[0] // 1000 == pair.second[0] // 1000
        assert same_document is not pair.is_random
        if not pair.is_random:
            assert pair.second[0] == pair.first[-1] + 1
    assert min(kinds.values()) > 10


def test_no_sentence_is_lost_and_put_back_ones_are_used_once() -> None:
    documents = _documents()
    used = [
        token
        for pair in _pairs(documents, max_length=1000, short_fraction=0)
        for token in (pair.first if pair.is_random else pair.first + pair.second)
    ]
    assert used == [t for document in documents for sentence in document for t in sentence]


def test_half_of_the_pairs_are_random() -> None:
    # Long documents: chunks of one sentence, which must be random, are rare.
    documents = [[[1000 * d + s] for s in range(900)] for d in range(20)]
    labels = [pair.is_random for pair in _pairs(documents, short_fraction=0)]
    # Sentences are put back, and the last chunk of a document may be a single one.
    assert abs(sum(labels) - len(labels) / 2) <= 2 * len(labels) ** 0.5 + len(documents)


def _truncate_token_by_token(a: int, b: int, longest: int) -> tuple[int, int]:
    while a + b > longest:
        a, b = (a - 1, b) if a > b else (a, b - 1)
    return a, b


def test_truncation_takes_what_the_loop_over_tokens_takes_from_both_ends() -> None:
    generator = np.random.default_rng(0)
    for a in range(1, 30):
        for b in range(1, 30):
            first, second = module._truncate(list(range(a)), list(range(b)), 13, generator)
            assert (len(first), len(second)) == _truncate_token_by_token(a, b, 13)
    fronts = [module._truncate(list(range(60)), [0], 21, generator)[0][0] for _ in range(400)]
    # 40 tokens go, each from the front with probability 1/2: mean 20, deviation sqrt(10).
    assert abs(np.mean(fronts) - 20) < 4 * (10 / 400) ** 0.5
