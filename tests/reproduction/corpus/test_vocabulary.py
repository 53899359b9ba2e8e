"""A WordPiece vocabulary: of the size asked for, the same every time, or loaded and checked."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from sift_trainer.reproduction.corpus.vocabulary import (
    SPECIAL_TOKENS,
    load_wordpiece,
    train_wordpiece,
)

WORDS = """
signal noise reads writes tensor frame opens closes a an the of to in with over
"""
TEXTS = [
    f"{a} {b} {c} {a}ing, {c} and {a}{b}."
    for a, b, c in zip(WORDS.split(), WORDS.split()[1:], WORDS.split()[2:], strict=False)
]


def test_wordpiece_has_the_size_asked_for_and_round_trips_through_a_folder(tmp_path: Path) -> None:
    tokenizer = train_wordpiece(TEXTS, vocab_size=100)
    assert len(tokenizer) == 100
    assert tokenizer.convert_ids_to_tokens(range(5)) == list(SPECIAL_TOKENS)
    assert set(tokenizer.all_special_ids) == set(range(5))
    encoded = tokenizer("Signal NOISE", "the tensor")
    assert encoded["input_ids"][0] == 2
    assert tokenizer.decode(encoded["input_ids"]) == "[CLS] signal noise [SEP] the tensor [SEP]"
    tokenizer.save_pretrained(tmp_path)
    for load in (AutoTokenizer.from_pretrained, load_wordpiece):
        again = load(str(tmp_path))
        assert again.get_vocab() == tokenizer.get_vocab()
        assert again("Signal NOISE", "the tensor")["input_ids"] == encoded["input_ids"]
    (tmp_path / "empty").mkdir()  # of which Transformers makes a tokenizer without words
    with pytest.raises(ValueError, match=r"tokenizer=.*tokenizer\.json"):
        load_wordpiece(str(tmp_path / "empty"))


def test_wordpiece_ids_do_not_depend_on_hash_order_or_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = train_wordpiece(TEXTS, vocab_size=100).get_vocab()
    for parallel in ("true", "false", "true"):  # the trainer seeds its hash tables anew each time
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", parallel)
        assert train_wordpiece(TEXTS, vocab_size=100).get_vocab() == expected
    with pytest.raises(ValueError, match="vocab_size=8192: these documents give"):
        train_wordpiece(TEXTS, 8192)
