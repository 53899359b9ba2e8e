"""Rows, columns and classes of datasets that are given by name."""

import csv
import gzip
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset, Value
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    ResNetConfig,
    ResNetForImageClassification,
    RobertaConfig,
    RobertaForMaskedLM,
)

from sift_trainer import SiftTrainingArguments
from sift_trainer.model_and_dataset import ModelAndDataset, build_trainer
from sift_trainer.model_and_dataset.class_labels import find_classes
from sift_trainer.model_and_dataset.classification import chosen_rows
from sift_trainer.model_and_dataset.columns import kinds_of, label_column, text_columns
from sift_trainer.model_and_dataset.language import blocks_of
from sift_trainer.model_and_dataset.loading import fit_vocabulary, load_tokenizer, most_tokens
from sift_trainer.model_and_dataset.opening import open_dataset

TEXTS = [f"Ada has {number} lamps ." for number in range(12)]


def source(**values: Any) -> ModelAndDataset:
    return ModelAndDataset(**{"model": "unread", "dataset": ["unread"], **values})


def lines() -> str:
    return "".join(f'{{"text": "{text}"}}\n' for text in TEXTS)


def write_csv(path: Path, delimiter: str) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([["text"], *([text] for text in TEXTS)])


def write_parts(folder: Path) -> None:
    folder.mkdir()
    for number in range(3):
        part = "\n".join(TEXTS[4 * number : 4 * number + 4])
        (folder / f"{number}.txt").write_text(part + "\n")


WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.txt": lambda path: path.write_text("\n".join(TEXTS) + "\n"),
    "a.jsonl": lambda path: path.write_text(lines()),
    "a.jsonl.xz": lambda path: path.write_bytes(lzma.compress(lines().encode())),
    "a.json.gz": lambda path: path.write_bytes(gzip.compress(lines().encode())),
    "a[1].csv": lambda path: write_csv(path, ","),
    "a.tsv": lambda path: write_csv(path, "\t"),
    "a.parquet": lambda path: Dataset.from_dict({"text": TEXTS}).to_parquet(path),
    "saved": lambda path: Dataset.from_dict({"text": TEXTS}).save_to_disk(path),
    "splits": lambda path: DatasetDict(train=Dataset.from_dict({"text": TEXTS})).save_to_disk(path),
    "parts": write_parts,
}


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_gives_the_same_rows(
    name: str, streaming: bool, inputs: Path, tmp_path: Path
) -> None:
    """``inputs`` for its cache."""
    WRITERS[name](tmp_path / name)
    data = open_dataset(source(dataset=[str(tmp_path / name)]), streaming)
    assert [row["text"] for row in data] == TEXTS


def test_patterns_and_several_files(inputs: Path, tmp_path: Path) -> None:
    write_parts(tmp_path / "parts")
    for names in (["*.txt"], ["0.txt", "1.txt", "2.txt"], ["0.txt", "[12].txt"]):
        files = [str(tmp_path / "parts" / name) for name in names]
        assert [row["text"] for row in open_dataset(source(dataset=files), True)] == TEXTS


def test_no_more_texts_are_read_than_needed(inputs: Path) -> None:
    """A million of them are there; each is five tokens."""
    read = []

    def texts() -> Iterator[dict[str, str]]:
        for number in range(1_000_000):
            read.append(number)
            yield {"text": "Ada has a red lamp"}

    tokenizer = AutoTokenizer.from_pretrained(inputs / "models" / "causal_lm")
    data = IterableDataset.from_generator(texts)
    rows, (note,) = blocks_of(data, "text", tokenizer, 8, wanted=100, labelled=True, seed=0)
    assert len(rows) == 100
    assert len(read) <= 2001
    assert "100 blocks of 8 tokens, drawn at random from 625, of the first 1,000 texts" in note
    joined = tokenizer("Ada has a red lamp").input_ids * 3
    cuts = [joined[start : start + 8] for start in range(5)]
    assert {tuple(block) for block in rows["input_ids"]} == {tuple(cut) for cut in cuts}
    assert rows["labels"] == rows["input_ids"]


def test_blocks_of_all_texts_are_the_texts_one_after_the_other(inputs: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(inputs / "models" / "causal_lm")
    texts = ["Ada has a red lamp", "Bela has", "a table . . ."] * 5
    data = Dataset.from_dict({"text": texts})
    rows, (note,) = blocks_of(data, "text", tokenizer, 8, wanted=99, labelled=False, seed=0)
    joined = [token for text in texts for token in tokenizer(text).input_ids]
    assert [token for block in rows["input_ids"] for token in block] == joined[
        : len(joined) // 8 * 8
    ]
    assert note == f"data: {len(joined) // 8} blocks of 8 tokens of all 15 texts in column text"
    assert "labels" not in rows.column_names


def test_too_few_tokens(inputs: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(inputs / "models" / "causal_lm")
    data = Dataset.from_dict({"text": ["Ada has a lamp"]})
    with pytest.raises(ValueError, match="max_length=8 tokens: the 1 texts of column 'text'"):
        blocks_of(data, "text", tokenizer, 8, wanted=100, labelled=True, seed=0)


def test_a_file_that_is_broken_behind_others(inputs: Path) -> None:
    files = [str(inputs / "data" / name) for name in ("train.jsonl", "broken.jsonl")]
    data = open_dataset(source(dataset=files), streaming=True)
    tokenizer = AutoTokenizer.from_pretrained(inputs / "models" / "causal_lm")
    with pytest.raises(ValueError, match="cannot be read to its end"):
        blocks_of(data, "text", tokenizer, 8, wanted=10_000, labelled=True, seed=0)


def test_rows_of_a_sorted_dataset_are_of_all_classes() -> None:
    data = Dataset.from_dict({"label": [number // 100 for number in range(500)]})
    rows, (note,) = chosen_rows(data, 50, seed=3)
    assert set(rows["label"]) == {0, 1, 2, 3, 4}
    assert note.startswith("data: 50 rows drawn at random from 500")
    assert rows["label"] == chosen_rows(data, 50, seed=3)[0]["label"]
    assert chosen_rows(data, 500, seed=3)[0]["label"] == data["label"]


def test_a_vocabulary_alone_is_of_the_models_kind(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nlamp\n")
    tokenizer = load_tokenizer(source(tokenizer=str(tmp_path)), BertConfig())
    assert (tokenizer.mask_token_id, tokenizer.pad_token_id) == (4, 0)
    assert tokenizer("Lamp").input_ids == [2, 5, 3]


def test_tokens_that_are_new_to_the_model(inputs: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(inputs / "models" / "masked_lm")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer) - 3, intermediate_size=8, **sizes))
    assert fit_vocabulary(model, tokenizer) == [
        "vocabulary: 3 tokens of the tokenizer are new to the model"
    ]
    batch = tokenizer(" ".join(tokenizer.get_vocab()), return_tensors="pt")
    assert model(**batch).logits.shape[-1] == len(tokenizer)
    assert fit_vocabulary(model, tokenizer) == []


def test_positions_that_a_model_keeps_for_padding(inputs: Path) -> None:
    """RoBERTa's rows are shorter than its table by two; a tokenizer may take less."""
    tokenizer = AutoTokenizer.from_pretrained(inputs / "models" / "masked_lm")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    roberta = RobertaConfig(vocab_size=50, max_position_embeddings=34, intermediate_size=8, **sizes)
    assert most_tokens(RobertaForMaskedLM(roberta), tokenizer) == 32
    bert = BertConfig(vocab_size=50, max_position_embeddings=34, intermediate_size=8, **sizes)
    assert most_tokens(BertForMaskedLM(bert), tokenizer) == 34
    tokenizer.model_max_length = 20
    assert most_tokens(BertForMaskedLM(bert), tokenizer) == 20


def test_a_model_that_has_the_last_exit_only(inputs: Path, tmp_path: Path) -> None:
    """A ResNet can be built for a probe, though training it with the default exit is refused."""
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    ResNetForImageClassification(ResNetConfig(**sizes)).save_pretrained(tmp_path / "resnet")
    named = source(
        model=str(tmp_path / "resnet"),
        dataset=[str(inputs / "data" / "pictures")],
        image_processor=str(inputs / "models" / "image_classification"),
    )
    args = SiftTrainingArguments(str(tmp_path), per_device_train_batch_size=2, use_cpu=True)
    built = build_trainer(named, args, batches=2)
    batch = next(iter(built.trainer.get_train_dataloader()))
    assert batch["pixel_values"].shape == (4, 3, 16, 16)
    assert set(batch) == {"pixel_values", "labels"}
    assert built.trainer.model.config.id2label == {0: "apple", 1: "baby", 2: "bear"}


@pytest.mark.parametrize(
    ("columns", "given", "expected"),
    [
        ({"text": "a", "title": "b", "label": 0}, {}, ("text", None, "label")),
        ({"review": "a", "stars": 3}, {}, ("review", None, "stars")),
        ({"sentence1": "a", "sentence2": "b", "label": 0}, {}, ("sentence1", "sentence2", "label")),
        ({"text": "a", "author": "b"}, {"label_column": "author"}, ("text", None, "author")),
        (
            {"premise": "a", "hypothesis": "b", "labels": 0},
            {"text_column": "premise", "text_pair_column": "hypothesis"},
            ("premise", "hypothesis", "labels"),
        ),
    ],
)
def test_columns(
    columns: dict[str, Any], given: dict[str, str], expected: tuple[str, str | None, str]
) -> None:
    kinds = kinds_of(Dataset.from_list([columns]))
    label = label_column(source(**given), kinds)
    assert (*text_columns(source(**given), kinds, label), label) == expected


def labelled(labels: list[Any], names: list[str] | None = None) -> Dataset:
    features = Features({"label": ClassLabel(names=names)}) if names else None
    return Dataset.from_dict({"label": labels}, features)


NAMED = {"id2label": {0: "good", 1: "bad"}, "label2id": {"good": 0, "bad": 1}}


@pytest.mark.parametrize(
    ("data", "config", "ids", "new_head"),
    [
        # A head that was trained for these names keeps their order, another is given theirs.
        (labelled(["bad", "good"]), NAMED, {"bad": 1, "good": 0}, False),
        (labelled([0, 1], ["bad", "good"]), NAMED, {0: 1, 1: 0}, False),
        (labelled(["b", "c", "a"]), NAMED, {"a": 0, "b": 1, "c": 2}, True),
        # Numbers are those of the head, if it has so many.
        (labelled([2, 0]), {"num_labels": 4}, {2: 2, 0: 0}, False),
        (labelled([5, 3]), {"num_labels": 4}, {3: 0, 5: 1}, True),
        (labelled([5, 3]), {"num_labels": 2}, {3: 0, 5: 1}, False),
    ],
)
def test_classes_of_a_trained_head(
    data: Dataset, config: dict[str, Any], ids: dict[Any, int], new_head: bool
) -> None:
    changed = BertConfig(**config)
    found = find_classes(data, "label", changed, trained=True)
    assert (found.ids, found.new_head) == (ids, new_head)
    assert changed.num_labels > max(ids.values())
    assert (changed.num_labels == len(ids)) or not new_head


def test_classes_of_a_new_head() -> None:
    config = BertConfig()
    found = find_classes(labelled([0, 2], ["a", "b", "c"]), "label", config, trained=False)
    assert found.ids == {0: 0, 1: 1, 2: 2}
    assert config.id2label == {0: "a", 1: "b", 2: "c"}


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (["a", None], "holds None, which is no class"),
        (["a", "a"], "nothing but 'a'"),
        ([-1, 1], "holds -1"),
    ],
)
def test_labels_that_are_no_classes(labels: list[Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        find_classes(labelled(labels), "label", BertConfig(), trained=False)


def test_texts_are_classified_by_a_new_head_on_a_language_model(
    inputs: Path, tmp_path: Path
) -> None:
    """GPT-2's tokenizer pads with its own token, and the model knows which; rows of labels that
    are names, of whom the dataset has more columns than are read."""
    data = Dataset.from_dict(
        {"text": ["Ada has a lamp", "a lamp"] * 8, "owner": ["Ada", "nobody"] * 8},
        Features({"text": Value("string"), "owner": Value("string")}),
    )
    data.to_json(tmp_path / "owners.jsonl")
    model = str(inputs / "models" / "causal_lm")
    wanted = source(
        model=model,
        dataset=[str(tmp_path / "owners.jsonl")],
        task="text-classification",
        label_column="owner",
    )
    args = SiftTrainingArguments(
        str(tmp_path / "out"), per_device_train_batch_size=2, use_cpu=True, eval_strategy="steps"
    )
    built = build_trainer(wanted, args, batches=3)
    batch = next(iter(built.trainer.get_train_dataloader()))
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert built.trainer.model.config.id2label == {0: "Ada", 1: "nobody"}
    assert len(built.trainer.train_dataset) == 12
    for row, label in zip(batch["input_ids"], batch["labels"], strict=True):
        text = ["Ada has a lamp", "a lamp"][int(label)]
        ids = tokenizer(text).input_ids
        assert row.tolist() == ids + [tokenizer.pad_token_id] * (4 - len(ids))
    assert "has no weights for score.weight" in "\n".join(built.notes)
