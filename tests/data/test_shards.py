"""Pairs on disk: the same rows back, and every kind of damage named by its file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sift_trainer.data.text.sentence_pairs import Pair
from sift_trainer.data.text.shards import (
    PairDataset,
    open_shards,
    pair_arrays,
    read_record,
    write_shard,
)

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


def write(path: Path, pairs: list[Pair] = PAIRS, vocab_size: int = 65_536) -> Path:
    arrays = pair_arrays(pairs, cls_id=CLS, sep_id=SEP, vocab_size=vocab_size)
    write_shard(path, arrays, {"documents": 2})
    return path


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, np.uint16), (65_537, np.int32)])
def test_rows_come_back_from_several_shards(vocab_size: int, dtype: type, tmp_path: Path) -> None:
    arrays = pair_arrays(PAIRS, cls_id=CLS, sep_id=SEP, vocab_size=vocab_size)
    assert arrays.tokens.dtype == dtype
    paths = [
        write(tmp_path / "0", PAIRS[:1], vocab_size),
        write(tmp_path / "1", [], vocab_size),
        write(tmp_path / "2", PAIRS, vocab_size),
    ]
    dataset = PairDataset(open_shards(paths))
    assert [dataset[i] for i in range(len(dataset))] == [ROWS[0], *ROWS]
    assert dataset[-1] == ROWS[1]
    assert dataset.__getitems__([2, 0]) == [ROWS[1], ROWS[0]]
    with pytest.raises(IndexError):
        dataset[3]


def test_workers_of_a_dataloader_read_the_same(tmp_path: Path) -> None:
    dataset = PairDataset(open_shards([write(tmp_path / "0")]))
    loader: Any = torch.utils.data.DataLoader(dataset, num_workers=1, collate_fn=list)
    assert list(loader) == [[row] for row in ROWS]


def test_no_pairs_make_an_empty_data_set(tmp_path: Path) -> None:
    assert len(PairDataset(open_shards([write(tmp_path / "0", [])]))) == 0


def test_a_flipped_bit_is_found_by_its_checksum_and_named(tmp_path: Path) -> None:
    write(tmp_path / "0")
    file = write(tmp_path / "1").with_suffix(".arrow")
    content = bytearray(file.read_bytes())
    content[content.index(np.array([11, 12, 13], dtype=np.uint16).tobytes())] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"1\.arrow is corrupt.*delete both"):
        open_shards([tmp_path / "0", tmp_path / "1"])
    dataset = PairDataset(open_shards([tmp_path / "1"], checksums=False))
    assert dataset[1]["input_ids"][3] == 10  # what would have been trained on


@pytest.mark.parametrize("checksums", [True, False])
def test_a_truncated_or_missing_file_is_named(tmp_path: Path, checksums: bool) -> None:
    path = write(tmp_path / "0")
    file = path.with_suffix(".arrow")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"0\.arrow is corrupt"):
        open_shards([path], checksums)
    file.unlink()
    with pytest.raises(ValueError, match=r"0\.arrow is missing"):
        open_shards([path], checksums)


def test_other_bytes_of_the_same_length_are_no_shard(tmp_path: Path) -> None:
    path = write(tmp_path / "0")
    file = path.with_suffix(".arrow")
    file.write_bytes(bytes(len(file.read_bytes())))
    with pytest.raises(ValueError, match=r"0\.arrow cannot be read"):
        open_shards([path], checksums=False)


def test_a_shard_is_whole_only_with_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("sift_trainer.data.text.shards.write_json", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "0")
    assert read_record(tmp_path / "0") is None
    record = read_record(write(tmp_path / "0"))
    assert record == {**json.loads((tmp_path / "0.json").read_text())}
    assert (record["documents"], record["rows"]) == (2, 2)
    assert record["bytes"] == (tmp_path / "0.arrow").stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.arrow", "0.json"]
