"""A document's hash decides its split, shard and order; what is on disk comes back, or is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models

from sift_trainer.reproduction.corpus import shards as module
from sift_trainer.reproduction.corpus.sentence_pairs import Pair
from sift_trainer.reproduction.corpus.shards import (
    Shards,
    open_shards,
    read_record,
    spool,
    spooled,
    write_shard,
)

TEXTS = [f"document number {i}, {'x' * (i % 50)}" for i in range(4000)]
CLS, SEP = 60_001, 60_002
PAIRS = [Pair([7, 8], [9], False), Pair([10], [11, 12, 13], True)]
ROWS = [
    {
        "input_ids": [CLS, 7, 8, SEP, 9, SEP],
        "token_type_ids": [0, 0, 0, 0, 1, 1],
        "next_sentence_label": 0,
    },
    {
        "input_ids": [CLS, 10, SEP, 11, 12, 13, SEP],
        "token_type_ids": [0, 0, 0, 1, 1, 1, 1],
        "next_sentence_label": 1,
    },
]


def shards(**values: object) -> Shards:
    settings = {"train": 6, "validation": 2, "validation_fraction": 0.1, "seed": 0}
    return Shards(**{**settings, **values})  # type: ignore[arg-type]


def validation(of: Shards) -> set[str]:
    return {text for text in TEXTS if of.of(text.encode())[0] >= of.train}


def test_the_split_has_its_share_and_depends_on_text_and_fraction_alone() -> None:
    found = validation(shards())
    assert abs(len(found) - 400) < 4 * (4000 * 0.1 * 0.9) ** 0.5  # four standard deviations
    assert validation(shards(seed=7, train=3, validation=1)) == found
    assert validation(shards(validation_fraction=0.02)) < found


@pytest.mark.parametrize("spool_bytes", [10**9, 5000, 1])
def test_every_document_comes_back_once_and_from_its_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spool_bytes: int
) -> None:
    """However often memory was emptied, and with letters of several bytes."""
    monkeypatch.setattr(module, "_SPOOL_BYTES", spool_bytes)
    texts = [*TEXTS[:300], "naïve 猫 \ud800 surrogate", ""]
    of = shards()
    spool(texts[:100], of, range(7), tmp_path / "a.arrow")
    spool(texts[90:], of, range(7), tmp_path / "b.arrow")  # ten of them for the second time
    for shard in range(8):
        found = spooled([tmp_path / "a.arrow", tmp_path / "b.arrow"], shard)
        expected = {}
        for text in texts:
            encoded = text.encode("utf-8", "replace")
            number, digest = of.of(encoded)
            if number == shard != 7:  # the last one was not wanted
                expected[digest] = encoded.decode()
        assert found == [expected[digest] for digest in sorted(expected)]


def write(path: Path, pairs: list[Pair] = PAIRS, vocab_size: int = 65_536) -> Path:
    words = {str(number): number for number in range(vocab_size)}
    words["[CLS]"], words["[SEP]"] = words.pop(str(CLS)), words.pop(str(SEP))
    write_shard(path, pairs, Tokenizer(models.WordLevel(words)), {"documents": 2})
    return path


@pytest.mark.parametrize(("vocab_size", "kind"), [(65_536, "uint16"), (65_537, "int32")])
def test_rows_come_back_from_several_shards(vocab_size: int, kind: str, tmp_path: Path) -> None:
    parts = {"0": PAIRS[:1], "1": [], "2": PAIRS}
    paths = [write(tmp_path / f"{n}.arrow", pairs, vocab_size) for n, pairs in parts.items()]
    dataset = open_shards(paths)
    assert dataset.features["input_ids"].feature.dtype == kind
    assert list(dataset) == [ROWS[0], *ROWS]
    loader: Any = torch.utils.data.DataLoader(dataset, num_workers=1, collate_fn=list)
    assert list(loader) == [[ROWS[0]], [ROWS[0]], [ROWS[1]]]
    record = read_record(paths[2])
    assert record is not None
    assert (record["documents"], record["rows"]) == (2, 2)


def test_a_flipped_bit_is_found_by_its_checksum_and_named(tmp_path: Path) -> None:
    file = write(tmp_path / "0.arrow")
    content = bytearray(file.read_bytes())
    content[content.index(np.array([11, 12, 13], dtype=np.uint16).tobytes())] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"0\.arrow is corrupt.*delete both"):
        open_shards([file])
    assert open_shards([file], checksums=False)[1]["input_ids"][3] == 10  # trained on otherwise
