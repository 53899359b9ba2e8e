"""A WordPiece vocabulary: trained on documents, or that of an existing tokenizer."""

import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ALPHABET = 1000  # characters, as many as BERT's own vocabularies have


def train_wordpiece(documents: Sequence[str], vocab_size: int = 8192) -> PreTrainedTokenizerFast:
    """A lower-casing BERT tokenizer (Devlin et al., 2019) of exactly `vocab_size` word pieces.

    The same documents give the same vocabulary and the same ids, whatever the number of threads.

    Raises:
        ValueError: the documents cannot fill `vocab_size`.
    """
    normalizer = normalizers.BertNormalizer(lowercase=True)
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(normalizer.normalize_str(document))
    ranked = sorted((-n, character) for character, n in counts.items() if not character.isspace())
    alphabet = sorted(character for _, character in ranked[:_ALPHABET])
    # The trainer numbers the "##x" pieces in the order of a hash table, which differs from run to
    # run and decides ties between merges. Listed as special tokens they get fixed numbers. BERT
    # never joins punctuation to a word.
    marks = {c for c in alphabet if c in string.punctuation or unicodedata.category(c)[0] == "P"}
    continuing = [f"##{character}" for character in alphabet if character not in marks]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL_TOKENS, *continuing],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = normalizer
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    learner.train_from_iterator(documents, trainer)
    tokenizer = BertTokenizerFast(vocab=learner.get_vocab())
    if len(tokenizer) != vocab_size:
        raise ValueError(
            f"vocab_size={vocab_size}: these documents give {len(tokenizer)} word pieces; "
            f"use {len(tokenizer)} or more text"
        )
    return tokenizer


def load_wordpiece(place: str) -> PreTrainedTokenizerFast:
    """The BERT tokenizer in a folder, or of a model on the Hugging Face hub.

    Raises:
        ValueError: there is none, or it lacks one of BERT's special tokens.
    """
    try:
        tokenizer = BertTokenizerFast.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise ValueError(f"tokenizer={place!r} cannot be loaded: {error}") from error
    known = tokenizer.get_vocab()
    # Without any file Transformers makes a tokenizer that knows the special tokens only.
    if not known.keys() >= set(SPECIAL_TOKENS) or len(known) <= 2 * len(SPECIAL_TOKENS):
        raise ValueError(f"tokenizer={place!r}: give a folder with a BERT tokenizer.json")
    return tokenizer
