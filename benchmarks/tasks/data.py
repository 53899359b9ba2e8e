"""The data of the tasks. Subsets, splits, copies and wrong labels are fixed: the seed of a run is
that of weights, order and masks alone."""

import csv
import json
import lzma
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf

from sift_trainer.reproduction.images import ImageArguments, load_images

Row = dict[str, Any]
FIXED = 7  # the seed of everything that is the same in all runs


@dataclass
class TaskData:
    """Rows of both splits, and what collates those of training. Some tasks have names of classes,
    which training labels are wrong, and which row each training row is a copy of."""

    train: list[Row]
    validation: list[Row]
    collate: Callable[[list[Row]], Any]
    classes: list[str] | tuple[()] = ()
    wrong: np.ndarray | None = None
    source: np.ndarray | None = None


def load(task: Row, folder: Path, cache: Path, tokenizer: Any, seed: int) -> TaskData:
    """The data of a task line from the folder that has its files. Training rows have an ``id``."""
    files = [folder / name for name in task["files"]]
    data: TaskData = LOADERS[task["kind"]](task, files, cache, tokenizer, seed)
    data.train = [{**row, "id": number} for number, row in enumerate(data.train)]
    data.validation = data.validation[:: -(-len(data.validation) // task["validation_rows"])]
    return data


def fields(rows: list[Row]) -> list[Row]:
    """The rows with what the model gets, alone."""
    names = ("input_ids", "attention_mask", "pixel_values", "labels")
    return [{name: row[name] for name in names if name in row} for row in rows]


def cached(folder: Path, key: Any, make: Callable[[], Any]) -> Any:
    """The tensors that ``make`` returns, stored in a file named after the key."""
    name = blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=8).hexdigest()
    if not (file := folder / f"{name}.pt").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(make(), part := folder / f"{name}.{os.getpid()}")
        part.replace(file)
    return torch.load(file)


def texts(task: Row, files: list[Path], cache: Path, tokenizer: Any, seed: int) -> TaskData:
    """Sentences with a class, from JSON lists by split or from CSV files."""
    file = next(file for file in files if file.is_file())
    if file.suffix == ".json":
        splits = [json.loads(file.read_text(encoding="utf-8"))[name] for name in ("train", "val")]
    else:
        tables = [csv.reader(each.open()) for each in (file, file.with_name("test.csv"))]
        splits = [list(table)[1:] for table in tables]
    names = sorted({label for _, label in splits[0]})
    (labels, true) = (np.array([names.index(label) for _, label in split]) for split in splits)
    draw, chosen = np.random.default_rng(FIXED), np.arange(len(labels))
    if most := task.get("rows_per_class"):
        own = (draw.permutation(np.flatnonzero(labels == each)) for each in range(len(names)))
        chosen = np.sort(np.concatenate([rows[:most] for rows in own]))
    if most := task.get("copies"):
        chosen = np.repeat(chosen, draw.integers(1, most + 1, len(chosen)))
    wrong = draw.random(len(chosen)) < task.get("wrong", 0.0)
    given = (labels[chosen] + wrong * draw.integers(1, len(names), len(chosen))) % len(names)

    def rows(pairs: list[list[str]], numbers: np.ndarray) -> list[Row]:
        cut = {"truncation": True, "max_length": task["max_length"]}
        ids = tokenizer([text for text, _ in pairs], **cut)["input_ids"]
        return [{"input_ids": i, "labels": n} for i, n in zip(ids, numbers.tolist(), strict=True)]

    train, validation = rows([splits[0][row] for row in chosen], given), rows(splits[1], true)
    collate = hf.DataCollatorWithPadding(tokenizer)
    return TaskData(train, validation, collate, names, wrong, chosen)


def words(task: Row, files: list[Path], cache: Path, tokenizer: Any, seed: int) -> TaskData:
    """A word and its tag on each line. The first piece of a word has its label."""
    blocks = [re.split(r"\n\s*\n", file.read_text(encoding="utf-8").strip()) for file in files]
    splits = [[[ln.split("\t") for ln in b.splitlines()] for b in split] for split in blocks]
    names = sorted({tag.strip() for split in splits for pairs in split for _, tag in pairs})

    def row(pairs: list[list[str]]) -> Row:
        said, tags = [pair[0] for pair in pairs], [pair[1].strip() for pair in pairs]
        cut = {"truncation": True, "max_length": task["max_length"]}
        found = tokenizer(said, is_split_into_words=True, **cut)
        of, numbers = found.word_ids(), [names.index(tag) for tag in tags]
        first = [
            now is not None and now != before
            for before, now in zip([None, *of[:-1]], of, strict=True)
        ]
        labels = [numbers[w] if begins else -100 for w, begins in zip(of, first, strict=True)]
        return {"input_ids": found["input_ids"], "labels": labels, "tags": tags}

    rows = [[row(pairs) for pairs in split] for split in splits]
    return TaskData(*rows, hf.DataCollatorForTokenClassification(tokenizer), names)


def answers(task: Row, files: list[Path], cache: Path, tokenizer: Any, seed: int) -> TaskData:
    """Questions and worked answers, without the marks of the calculator. Longer ones are left out:
    cut, they would lose their last number, whose tokens begin and end at ``final``."""

    def row(question: str, answer: str) -> Row:
        steps, number = re.sub(r"<<.*?>>", "", answer).split("\n#### ")
        parts = [f"Question: {question}\nAnswer:", f" {steps}\n####", f" {number}"]
        asked, worked, last = tokenizer(parts, add_special_tokens=False)["input_ids"]
        ids = [*asked, *worked, *last, tokenizer.eos_token_id]
        labels = [-100] * len(asked) + ids[len(asked) :]
        return {
            "input_ids": ids,
            "labels": labels,
            "final": [len(ids) - 1 - len(last), len(ids) - 1],
        }

    lines = [map(json.loads, file.read_text(encoding="utf-8").splitlines()) for file in files]
    splits = [[row(line["question"], line["answer"]) for line in split] for split in lines]
    short = [[r for r in rows if len(r["input_ids"]) <= task["max_length"]] for rows in splits]
    tokenizer.pad_token = tokenizer.eos_token
    return TaskData(*short, hf.DataCollatorForTokenClassification(tokenizer))


def masked(task: Row, files: list[Path], cache: Path, tokenizer: Any, seed: int) -> TaskData:
    """Pieces of one length of documents; every 20th document is for validation. 15% of the tokens
    are masked, in training anew each time, in validation always the same."""
    length, part = task["max_length"] - 2, slice(*task["characters"])

    def pieces() -> list[Any]:
        splits: list[list[list[int]]] = [[], []]
        for text in (lzma.decompress(file.read_bytes()).decode() for file in files):
            for number, line in enumerate(text.splitlines()):
                ids = tokenizer(json.loads(line)["text"][part], add_special_tokens=False)[
                    "input_ids"
                ]
                cut = (ids[at : at + length] for at in range(0, len(ids) - length + 1, length))
                whole = [[tokenizer.cls_token_id, *c, tokenizer.sep_token_id] for c in cut]
                splits[number % 20 == 0] += whole
        return [torch.tensor(split) for split in splits]

    splits = cached(cache, [task["files"], task["characters"], length, len(tokenizer)], pieces)
    train, validation = ([{"input_ids": ids} for ids in split] for split in splits)
    mask, fixed = (hf.DataCollatorForLanguageModeling(tokenizer, seed=s) for s in (seed, FIXED))
    batch = fixed(validation)
    rows = [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]
    return TaskData(train, rows, mask)


def images(task: Row, files: list[Path], cache: Path, tokenizer: Any, seed: int) -> TaskData:
    """CIFAR-100, cropped and flipped in training."""
    usual = {"max_images_per_class": task["rows_per_class"], "augmentation_seed": seed}
    args = ImageArguments(files=str(files[0]), image_cache_dir=str(cache / "images"), **usual)
    found = load_images(args, check=False, progress=False)
    rows = [[each[row] for row in range(len(each))] for each in (found.train, found.test)]
    return TaskData(*rows, found.collator, found.classes)


LOADERS = {"texts": texts, "words": words, "answers": answers, "masked": masked, "images": images}
