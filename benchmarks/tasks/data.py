"""The data of the tasks, the same for all seeds up to masks and crops, and the lines of results."""

import csv
import json
import lzma
import os
import re
from hashlib import blake2b
from pathlib import Path
from types import SimpleNamespace as Data
from typing import Any

import numpy as np
import torch
import transformers as hf

from sift_trainer.reproduction.images import ImageArguments, load_images

Row = dict[str, Any]
FIXED = 7  # the seed of everything that is the same in all runs
TUNING_SEED = 1000  # of the runs that choose the learning rate, which are not compared


def read(file: Path) -> list[Row]:
    """The lines of a results file that are whole, and so end with versions."""
    lines = file.read_text(encoding="utf-8").split("\n") if file.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}}}")]


def quality(line: Row) -> float:
    """The task's metric of a run, where more is better: percent, or minus a loss in nats."""
    name = line["settings"]["task"]["metric"]
    return float(line["metrics"][name]) * (-1 if name == "loss" else 100)


def best_rate(lines: list[Row], task: Row, rates: list[float]) -> float:
    """The learning rate at which stock was best, or the middle one if it was not tuned."""
    tuned = [e for e in lines if e.get("seed") == TUNING_SEED and e["settings"]["task"] == task]
    return float(max(tuned, key=quality)["learning_rate"] if tuned else sorted(rates)[1])


def load(task: Row, folder: Path, cache: Path, tokenizer: Any, seed: int) -> Data:
    """The rows of a task; of training rows also if a label is wrong, and what each is a copy of."""
    files = [folder / name for name in task["files"]]
    (train, rows), collate, more = LOADERS[task["kind"]](task, files, cache, tokenizer, seed)
    train = [{**row, "id": number} for number, row in enumerate(train)]
    usual = {"classes": [], "wrong": np.zeros(len(train), bool), "source": np.arange(len(train))}
    usual |= {"validation": rows[:: -(-len(rows) // task["validation_rows"])], "collate": collate}
    return Data(train=train, **(usual | more))


def fields(rows: list[Row]) -> list[Row]:
    """The rows with what the model gets, alone."""
    names = ("input_ids", "attention_mask", "pixel_values", "labels")
    return [{name: row[name] for name in names if name in row} for row in rows]


def cached(folder: Path, key: Any, make: Any) -> Any:
    """The tensors that ``make`` returns, stored in a file named after the key."""
    file = folder / f"{blake2b(json.dumps(key).encode(), digest_size=8).hexdigest()}.pt"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(make(), part := file.with_suffix(f".{os.getpid()}"))
        part.replace(file)
    return torch.load(file)


def texts(task: Row, files: list[Path], cache: Path, tokenizer: Any, seed: int) -> Any:
    """Sentences with a class, from JSON lists by split or from CSV files."""
    file = next(file for file in files if file.is_file())
    if file.suffix == ".json":
        splits = [json.loads(file.read_text(encoding="utf-8"))[name] for name in ("train", "val")]
    else:
        tables = [csv.reader(each.open()) for each in (file, file.with_name("test.csv"))]
        splits = [list(table)[1:] for table in tables]
    names = sorted({label for _, label in splits[0]})
    labels = np.array([names.index(label) for _, label in splits[0]])
    draw, chosen = np.random.default_rng(FIXED), np.arange(len(labels))
    if most := task.get("rows_per_class"):
        own = (draw.permutation(np.flatnonzero(labels == each)) for each in range(len(names)))
        chosen = np.sort(np.concatenate([rows[:most] for rows in own]))
    if most := task.get("copies"):
        chosen = np.repeat(chosen, draw.integers(1, most + 1, len(chosen)))
    wrong = draw.random(len(chosen)) < task.get("wrong", 0.0)
    given = (labels[chosen] + wrong * draw.integers(1, len(names), len(chosen))) % len(names)
    train = [(splits[0][row][0], label) for row, label in zip(chosen, given.tolist(), strict=True)]
    pairs = train, [(text, names.index(label)) for text, label in splits[1]]
    cut = {"truncation": True, "max_length": task["max_length"]}
    rows = [[{**tokenizer(text, **cut), "labels": y} for text, y in split] for split in pairs]
    more = {"classes": names, "wrong": wrong, "source": chosen}
    return rows, hf.DataCollatorWithPadding(tokenizer), more


def words(task: Row, files: list[Path], cache: Path, tokenizer: Any, seed: int) -> Any:
    """A word and its tag on each line. The first piece of a word has its label."""
    blocks = [re.split(r"\n\s*\n", file.read_text(encoding="utf-8").strip()) for file in files]
    splits = [[[ln.strip().split("\t") for ln in b.splitlines()] for b in each] for each in blocks]
    names = sorted({tag for split in splits for pairs in split for _, tag in pairs})
    cut = {"is_split_into_words": True, "truncation": True, "max_length": task["max_length"]}
    rows: list[list[Row]] = [[], []]
    for number, pairs in ((n, pairs) for n in (0, 1) for pairs in splits[n]):
        said, tags = (list(each) for each in zip(*pairs, strict=True))
        found = tokenizer(said, **cut)
        of = found.word_ids()
        first = [now not in (None, last) for last, now in zip([None, *of[:-1]], of, strict=True)]
        labels = [names.index(tags[w]) if f else -100 for w, f in zip(of, first, strict=True)]
        known = [tag for at, tag in enumerate(tags) if at in of or at > max(of[1:-1], default=-1)]
        rows[number].append({**found, "labels": labels, "tags": known})  # some have no piece
    return rows, hf.DataCollatorForTokenClassification(tokenizer), {"classes": names}


def answers(task: Row, files: list[Path], cache: Path, tokenizer: Any, seed: int) -> Any:
    """Questions and worked answers that are short enough; the last number stands at ``final``."""
    tokenizer.pad_token, rows = tokenizer.eos_token, ([], [])
    for own, file in zip(rows, files, strict=True):
        for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            steps, number = re.sub(r"<<.*?>>", "", line["answer"]).split("\n#### ")
            parts = [f"Question: {line['question']}\nAnswer:", f" {steps}\n####", f" {number}"]
            asked, worked, last = tokenizer(parts, add_special_tokens=False)["input_ids"]
            answer = [*worked, *last, tokenizer.eos_token_id]
            row = {"input_ids": asked + answer, "labels": [-100] * len(asked) + answer}
            if (end := len(row["labels"]) - 1) < task["max_length"]:
                own.append({**row, "final": [end - len(last), end]})
    return rows, hf.DataCollatorForTokenClassification(tokenizer), {}


def masked(task: Row, files: list[Path], cache: Path, tokenizer: Any, seed: int) -> Any:
    """Pieces of one length of documents, and always the same masks in those for validation."""
    length, part = task["max_length"] - 2, slice(*task["characters"])

    def pieces() -> list[Any]:
        splits: list[list[list[int]]] = [[], []]
        for lines in (lzma.decompress(file.read_bytes()).strip().split(b"\n") for file in files):
            for number, text in enumerate(json.loads(line)["text"][part] for line in lines):
                ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
                cut = (ids[at : at + length] for at in range(0, len(ids) - length + 1, length))
                whole = [[tokenizer.cls_token_id, *c, tokenizer.sep_token_id] for c in cut]
                splits[number % 20 == 0] += whole
        return [torch.tensor(split) for split in splits]

    splits = cached(cache, [task["files"], task["characters"], length, len(tokenizer)], pieces)
    train, validation = ([{"input_ids": ids} for ids in split] for split in splits)
    mask, fixed = (hf.DataCollatorForLanguageModeling(tokenizer, seed=s) for s in (seed, FIXED))
    batch = fixed(validation)
    rows = [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]
    return [train, rows], mask, {}


def images(task: Row, files: list[Path], cache: Path, tokenizer: Any, seed: int) -> Any:
    """CIFAR-100, cropped and flipped in training."""
    usual = {"max_images_per_class": task["rows_per_class"], "augmentation_seed": seed}
    args = ImageArguments(files=str(files[0]), image_cache_dir=str(cache / "images"), **usual)
    found = load_images(args, check=False, progress=False)
    rows = [[each[row] for row in range(len(each))] for each in (found.train, found.test)]
    return rows, found.collator, {"classes": found.classes}


LOADERS = {"texts": texts, "words": words, "answers": answers, "masked": masked, "images": images}
