"""Rows, columns and classes of datasets that are given by name."""

import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset
from transformers import AutoTokenizer, BertConfig

from sift_trainer import SiftTrainingArguments
from sift_trainer.probe.from_names.building import ModelAndDataset, build_trainer
from sift_trainer.probe.from_names.rows import blocks_of, class_ids, open_dataset

TEXTS = [f"Ada has {number} lamps ." for number in range(12)]
JSON_LINES = "".join(f'{{"text": "{text}"}}\n' for text in TEXTS)


def write_parts(folder: Path) -> None:
    folder.mkdir()
    for number in range(3):
        part = "\n".join(TEXTS[4 * number : 4 * number + 4])
        (folder / f"{number}.txt").write_text(part + "\n")


WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.jsonl.xz": lambda path: path.write_bytes(lzma.compress(JSON_LINES.encode())),
    "a.csv": lambda path: path.write_text("\n".join(["text", *TEXTS])),
    "splits": lambda path: DatasetDict(train=Dataset.from_dict({"text": TEXTS})).save_to_disk(path),
    "parts": write_parts,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_gives_the_same_rows(name: str, inputs: Path, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    for streaming in (True, False):
        data = open_dataset([str(tmp_path / name)], streaming=streaming)
        assert [row["text"] for row in data] == TEXTS


def test_patterns_and_several_files(inputs: Path, tmp_path: Path) -> None:
    write_parts(tmp_path / "parts")
    files = [str(tmp_path / "parts" / name) for name in ("0.txt", "[12].txt")]
    assert [row["text"] for row in open_dataset(files, streaming=True)] == TEXTS
    with pytest.raises(OSError, match=r"lost\.txt"):
        open_dataset([*files, str(tmp_path / "lost.txt")])
    with pytest.raises(ValueError, match="not of one kind"):
        open_dataset([*files, str(tmp_path / "lost.csv")])


def test_no_more_texts_are_read_than_needed(inputs: Path) -> None:
    """A million of them exist; each is five tokens."""
    read = []

    def texts() -> Iterator[dict[str, str]]:
        for number in range(1_000_000):
            read.append(number)
            yield {"text": "Ada has a red lamp"}

    tokenizer = AutoTokenizer.from_pretrained(inputs / "models" / "causal_lm")
    data = IterableDataset.from_generator(texts)
    rows, note = blocks_of(data, "text", tokenizer, 8, wanted=100, labelled=True)
    assert len(rows) == 100
    assert len(read) <= 162
    assert note == "data: 100 blocks of 8 tokens from the first 160 texts in text"
    joined = tokenizer("Ada has a red lamp").input_ids * 160
    assert [token for block in rows["input_ids"] for token in block] == joined
    assert rows["labels"] == rows["input_ids"]
    with pytest.raises(ValueError, match="have fewer tokens"):
        blocks_of(data.take(1), "text", tokenizer, 80, wanted=100, labelled=True)


def labelled(labels: list[Any], names: list[str] | None = None) -> Dataset:
    features = Features({"label": ClassLabel(names=names)}) if names else None
    return Dataset.from_dict({"label": labels}, features)


NAMED = {"id2label": {0: "good", 1: "bad"}, "label2id": {"good": 0, "bad": 1}}


@pytest.mark.parametrize(
    ("data", "config", "trained", "ids", "classes"),
    [
        # A head that was trained for these names keeps their order. Another one gets new names.
        (labelled(["bad", "good"]), NAMED, True, {"bad": 1, "good": 0}, 2),
        (labelled(["b", "c", "a"]), NAMED, True, {"a": 0, "b": 1, "c": 2}, 3),
        # Numbers are those of the head, if it has so many.
        (labelled([2, 0]), {"num_labels": 4}, True, {2: 2, 0: 0}, 4),
        (labelled([0, 2], ["a", "b", "c"]), {}, False, {0: 0, 1: 1, 2: 2}, 3),
    ],
)
def test_classes(
    data: Dataset, config: dict[str, Any], trained: bool, ids: dict[Any, int], classes: int
) -> None:
    changed = BertConfig(**config)
    assert class_ids(data, "label", changed, trained) == ids
    assert changed.num_labels == classes


def test_a_language_model_gets_a_new_head_for_classes(inputs: Path, tmp_path: Path) -> None:
    """GPT-2 has no padding token: its tokenizer pads with another one, which the model knows."""
    texts, owners = ["Ada has a lamp", "a lamp"] * 8, ["Ada", "nobody"] * 8
    Dataset.from_dict({"text": texts, "owner": owners}).to_json(tmp_path / "owners.jsonl")
    model, data = str(inputs / "models" / "causal_lm"), [str(tmp_path / "owners.jsonl")]
    source = ModelAndDataset(model, data, task="text-classification", label_column="owner")
    args = SiftTrainingArguments(str(tmp_path), per_device_train_batch_size=2, use_cpu=True)
    trainer, found = build_trainer(source, args, batches=3)
    batch, notes = next(iter(trainer.get_train_dataloader())), "\n".join(found)
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert len(trainer.train_dataset) == 12
    for row, label in zip(batch["input_ids"], batch["labels"], strict=True):
        ids = tokenizer(["Ada has a lamp", "a lamp"][int(label)]).input_ids
        assert row.tolist() == ids + [tokenizer.pad_token_id] * (4 - len(ids))
    assert "has no weights for score.weight" in notes
    assert "classes: Ada, nobody" in notes
