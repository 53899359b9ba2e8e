"""Speed and memory of preparing a corpus: MB/s per core, and the peak on 1x and 4x the input.

    python benchmarks/prepare_corpus.py --files 'data/wikipedia/*.jsonl.xz' \
      --tokenizer data/bert-base-uncased [--megabytes 20] [--num_proc 1] [--output result.json]

Every preparation runs in a process of its own, sentence splitting included, so that its peak memory
is its own; megabytes are of text. Without --files the text is the embedded documentation corpus,
repeated with numbers so that no document is the same.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from sift_trainer.measuring.machine import machine
from sift_trainer.reproduction.corpus.corpus import TRAIN, CorpusArguments, load_corpus
from sift_trainer.reproduction.corpus.preparation import ShareArguments, prepare_corpus
from sift_trainer.reproduction.corpus.sources import Source, Sources, documents, parts

SIZES = (1, 4)  # times the input


def text(files: str | None) -> Iterator[str]:
    source = Source(files=files) if files else Source(documentation=True)
    number = 0
    while True:
        for part in parts(source):
            yield from (f"{document}\nCopy {number}." for document in documents(part))
        number += 1


def write_inputs(folder: Path, files: str | None, megabytes: float) -> None:
    """``4x`` holds four files of `megabytes` each, and ``1x`` the first of them."""
    found = text(files)
    for part in range(max(SIZES)):
        size = 0
        with (folder / f"{part}.jsonl").open("w") as file:
            while size < megabytes * 1e6:
                document = next(found)
                size += len(document.encode())
                file.write(json.dumps({"text": document}) + "\n")


def child(folder: Path, times: int, num_proc: int, tokenizer: str, max_length: int) -> None:
    """Prepares, and prints what it took."""
    files = [str(folder / f"{part}.jsonl") for part in range(times)]
    args = CorpusArguments(
        sources=Sources({"text": {"files": files}}),
        tokenizer=tokenizer,
        max_length=max_length,
        data_dir=str(folder / f"prepared-{times}-{num_proc}-{os.getpid()}"),
    )
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process is one core
    began = time.perf_counter()
    prepare_corpus(args, ShareArguments(num_proc=num_proc), progress=False)
    seconds = time.perf_counter() - began
    numbers = load_corpus(args).statistics
    megabytes = sum(numbers[f"{split}_text_bytes"] for split in ("train", "validation")) / 1e6
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(each).ru_maxrss for each in who) / 1e3
    print(
        json.dumps(
            {
                "times": times,
                "num_proc": num_proc,
                "megabytes": round(megabytes, 1),
                "seconds": round(seconds, 2),
                "megabytes_per_second_and_process": round(megabytes / seconds / num_proc, 3),
                "peak_megabytes_of_a_process": round(peak),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", help="a file, folder or pattern of real text")
    parser.add_argument("--tokenizer", default=TRAIN, help="folder or hub id")
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--max_length", type=int, default=512)
    parser.add_argument("--num_proc", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        child(flags.folder, flags.child, flags.num_proc, flags.tokenizer, flags.max_length)
        return
    results = []
    with TemporaryDirectory() as name:
        write_inputs(Path(name), flags.files, flags.megabytes)
        for times in SIZES:
            own = ["--folder", name, "--child", str(times)]
            done = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], *own], stdout=subprocess.PIPE, check=True
            )
            results.append(json.loads(done.stdout))
            print(results[-1], flush=True)
    speed = results[-1]["megabytes_per_second_and_process"]
    hours = 20_000 / speed / 32 / 3600
    print(f"{speed} MB/s per core: 20 GB on 32 such cores in {hours:.2f} h")
    if flags.output:
        result = {"machine": machine(), "command": sys.argv[1:], "results": results}
        flags.output.write_text(json.dumps({**result, "hours_for_20_GB_on_32": hours}, indent=1))


if __name__ == "__main__":
    main()
