"""One shard of sentence pairs, from its spooled documents."""

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sift_trainer.data.text.corpus import CorpusArguments
from sift_trainer.data.text.sentence_pairs import sentence_pairs, sentences
from sift_trainer.data.text.shards import pair_arrays, write_shard
from sift_trainer.data.text.spool import Document, Shards, spooled

_DOCUMENTS_AT_ONCE = 200


def write_pairs(
    folder: Path,
    paths: list[Path],
    shard: int,
    shards: Shards,
    args: CorpusArguments,
    names: tuple[str, ...],
) -> None:
    """One shard, from its spooled documents."""
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    found = in_order(spooled(paths, shard))
    encoded = list(_encoded(found, tokenizer))
    generator = np.random.default_rng([args.corpus_seed, shard])
    try:
        pairs = sentence_pairs(
            encoded,
            args.max_length,
            args.short_fraction,
            args.random_next_fraction,
            generator=generator,
        )
    except ValueError as error:
        raise ValueError(
            f"{shards.name(shard)}: {error}; use fewer shards (shards={shards.train} now) or a "
            f"larger validation_fraction ({args.validation_fraction} now)"
        ) from error
    arrays = pair_arrays(
        pairs,
        cls_id=tokenizer.token_to_id("[CLS]"),
        sep_id=tokenizer.token_to_id("[SEP]"),
        vocab_size=tokenizer.get_vocab_size(),
    )
    per_source = np.bincount([document.source for document in found], minlength=len(names))
    record = {
        "documents": len(found),
        "text_bytes": sum(len(document.text.encode()) for document in found),
        "word_pieces": sum(len(sentence) for document in encoded for sentence in document),
        "random_next": int(arrays.is_random.sum()),
        **{f"documents_of_{name}": int(n) for name, n in zip(names, per_source, strict=True)},
    }
    write_shard(folder / shards.name(shard), arrays, record)


def in_order(found: Iterable[Document]) -> list[Document]:
    """By digest, equal documents once."""
    distinct = {document.digest: document for document in found}
    return [distinct[digest] for digest in sorted(distinct)]


def _encoded(found: list[Document], tokenizer: Any) -> Iterator[list["array[int]"]]:
    """Documents as sentences of token ids, compactly, some documents at a time."""
    kind = "H" if tokenizer.get_vocab_size() <= 2**16 else "i"
    for start in range(0, len(found), _DOCUMENTS_AT_ONCE):
        batch = [sentences(document.text) for document in found[start : start + _DOCUMENTS_AT_ONCE]]
        flat = [sentence for document in batch for sentence in document]
        ids = iter(tokenizer.encode_batch_fast(flat, add_special_tokens=False))
        for document in batch:
            yield [array(kind, next(ids).ids) for _ in document]
