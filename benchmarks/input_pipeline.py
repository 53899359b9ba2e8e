"""Sequences per second of the text pipeline, against what a step consumes at the sifted rate.

The corpus is prepared as `scripts/prepare_corpus.py` does, by default from the documentation of the
installed packages; measured is what follows: reading rows, padding, masking, handing batches of
candidates over from dataloader workers. A sifted step draws twice the rows that it trains on, so
the rate to compare with is its candidates over its seconds, as `step_time.py` has measured them;
the pipeline has to deliver them while the step runs, on the same cores.

    python benchmarks/input_pipeline.py --step_time docs/benchmarks/step_time_cpu.json \\
        --output docs/benchmarks/input_pipeline_cpu.json
    python benchmarks/input_pipeline.py --files 'data/*.jsonl.xz' --length 512 --batch_size 64
"""

import argparse
import itertools
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from bert_steps import LABEL_SHARE
from measured_steps import Turn, Turns, describe_machine, spread, table, take_turns, write_result
from torch.utils.data import DataLoader

from sift_trainer.reproduction.corpus.corpus import Corpus, CorpusArguments
from sift_trainer.reproduction.corpus.masking import PairCollator
from sift_trainer.reproduction.corpus.preparation import prepared
from sift_trainer.reproduction.corpus.sources import Sources

COLUMNS = ("sequences_per_second", "of_consumed", "of_consumed_by_stock")


def prepare(options: argparse.Namespace, folder: str) -> Corpus:
    """The rows to read, on disk as a training run finds them."""
    source = {"files": options.files} if options.files else {"documentation": True}
    args = CorpusArguments(
        sources=Sources({"text": source}),
        vocab_size=options.vocabulary,
        max_length=options.length,
        validation_fraction=0.02,
        data_dir=folder,
    )
    return prepared(args, progress=False)


def pipeline(corpus: Corpus, options: argparse.Namespace, workers: int) -> Turn:
    """A turn through the loader: ``options.batches`` batches after the first, whose wait is that
    for the workers to start."""
    per_row = None if options.independent_masks else round(LABEL_SHARE * options.length)
    collator = PairCollator(corpus.tokenizer, options.length, seed=0, masks_per_row=per_row)
    loader = DataLoader(
        corpus.train,
        options.batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=collator,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    if not len(loader):
        raise ValueError(
            f"--batch_size {options.batch_size}: the corpus has {len(corpus.train)} rows; "
            "use fewer, such as 4, or more text"
        )

    def turn() -> dict[str, float]:
        batches = itertools.chain.from_iterable(itertools.repeat(loader))
        next(batches)
        begin = time.perf_counter()
        rows = sum(len(next(batches)["labels"]) for _ in range(options.batches))
        return {"rate": rows / (time.perf_counter() - begin)}

    return turn


def consumed(file: Path | None) -> dict[str, Any]:
    """Sequences per second of the measured steps: candidates of the fastest sifted one, and rows of
    the stock one."""
    if file is None:
        return {}
    result = json.loads(file.read_text())
    rows = result["settings"]["batch_size"]
    steps = {row["name"]: row.get("step_seconds") for row in result["arms"]}
    sifted = {name: took for name, took in steps.items() if name.startswith("sifting") and took}
    fastest = min(sifted, key=lambda name: sifted[name])
    return {
        "step_time": file.name,
        "length": result["settings"]["length"],
        "arm": fastest,
        "candidates_per_second": 2 * rows / sifted[fastest],
        "stock_rows_per_second": rows / steps["stock Trainer"],
    }


def measure(corpus: Corpus, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per number of workers: medians over the rounds."""
    names = {workers: f"{workers} workers" for workers in options.workers}
    starts = {
        name: lambda workers=workers: pipeline(corpus, options, workers)
        for workers, name in names.items()
    }
    turns = take_turns(starts, options.rounds)
    step = consumed(options.step_time)
    return [_row(workers, name, turns, step) for workers, name in names.items()]


def _row(workers: int, name: str, turns: Turns, step: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "workers": workers}
    if name in turns.errors:
        return {**row, "error": turns.errors[name]}
    row["rounds"] = len(turns.rounds)
    row |= spread("sequences_per_second", [n[name]["rate"] for n in turns.rounds])
    if step:
        row["of_consumed"] = row["sequences_per_second"] / step["candidates_per_second"]
        row["of_consumed_by_stock"] = row["sequences_per_second"] / step["stock_rows_per_second"]
    return row


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", help="a file, folder or pattern of text; unset: documentation")
    parser.add_argument("--data_dir", help="folder to keep the corpus in, or to find it in")
    parser.add_argument("--length", type=int, help="tokens of a row; unset: the step's, or 128")
    parser.add_argument("--batch_size", type=int, help="candidates; unset: the step's, or 16")
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--independent_masks", action="store_true")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batches", type=int, default=500, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--step_time", type=Path, help="result of step_time.py to compare with")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/input_pipeline.json"))
    options = parser.parse_args(argv)
    step = json.loads(options.step_time.read_text())["settings"] if options.step_time else {}
    options.length = options.length or step.get("length", 128)
    options.batch_size = options.batch_size or 2 * step.get("batch_size", 8)
    return options


def main(argv: list[str]) -> None:
    options = parse(argv)
    print(describe_machine(), flush=True)
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        corpus = prepare(options, options.data_dir or folder)
        rows = measure(corpus, options)
        size = len(corpus.train)
    print(table(rows, COLUMNS))
    write_result(
        options.output,
        options,
        ["benchmarks/input_pipeline.py", *argv],
        corpus_rows=size,
        consumed=consumed(options.step_time),
        pipelines=rows,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
