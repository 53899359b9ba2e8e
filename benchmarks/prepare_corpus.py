"""Speed and memory of preparing a corpus: MB/s per core, and the peak on 1x and 4x the input.

    python benchmarks/prepare_corpus.py --files 'data/wikipedia/*.jsonl.xz' \
      --tokenizer data/bert-base-uncased [--megabytes 20] [--num_proc 1] [--output result.json]

Each input is prepared by `scripts/prepare_corpus.py` in a process of its own, so that the peak
memory is its own. The speed is that of the additional input, which leaves the start of the process
out. Megabytes are of text. Without --files the text is that of this project's pages, repeated with
numbers so that no document is the same.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
SIZES = (1, 4)  # times the input


def texts(files: str | None) -> Iterator[str]:
    """Documents without end, no two of them the same."""
    from datasets import load_dataset

    for number in count():
        if files is None:
            pages = [page.read_text() for page in sorted((ROOT / "docs").rglob("*.md"))]
            rows = ({"text": section} for page in pages for section in page.split("\n## "))
        else:
            rows = load_dataset("json", data_files=files, split="train", streaming=True)
        yield from (f"{row['text']}\nCopy {number}." for row in rows)


def write_inputs(folder: Path, files: str | None, megabytes: float) -> dict[int, float]:
    """Times -> megabytes. A folder per size, with as many files of ``megabytes`` each."""
    documents, written = texts(files), {}
    for times in SIZES:
        written[times] = 0.0
        (folder / str(times)).mkdir()
        for part in range(times):
            size = 0
            with (folder / str(times) / f"{part}.jsonl").open("w") as file:
                while size < megabytes * 1e6:
                    document = next(documents)
                    size += len(document.encode())
                    file.write(json.dumps({"text": document}) + "\n")
            written[times] += size / 1e6
    return written


def prepare(folder: Path, times: int, flags: argparse.Namespace) -> tuple[float, float]:
    """Seconds, and the peak memory of the largest process so far in MB."""
    sources = {"text": {"files": str(folder / str(times) / "*.jsonl")}}
    command = [sys.executable, str(ROOT / "scripts" / "prepare_corpus.py")]
    command += ["--sources", json.dumps(sources), "--data_dir", str(folder / f"made-{times}")]
    command += ["--validation_fraction", "0.05"]  # of few documents some are for validation
    command += ["--max_length", str(flags.max_length), "--num_proc", str(flags.num_proc)]
    command += ["--tokenizer", flags.tokenizer] if flags.tokenizer else ["--vocab_size", "4000"]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}  # one process is one core
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    seconds = time.perf_counter() - began
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", help="JSON lines of real text: a file or a pattern")
    parser.add_argument("--tokenizer", help="folder or hub id; default: train one")
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--max_length", type=int, default=512)
    parser.add_argument("--num_proc", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    flags = parser.parse_args(argv)
    results: list[dict[str, float]] = []
    with TemporaryDirectory() as name:
        sizes = write_inputs(Path(name), flags.files, flags.megabytes)
        for times in SIZES:
            seconds, peak = prepare(Path(name), times, flags)
            found = {
                "times": times,
                "num_proc": flags.num_proc,
                "megabytes": round(sizes[times], 1),
                "seconds": round(seconds, 2),
                "peak_megabytes_of_a_process": round(peak),
            }
            print(found, flush=True)
            results.append(found)
    one, four = results
    additional = four["megabytes"] - one["megabytes"], four["seconds"] - one["seconds"]
    speed = additional[0] / additional[1] / flags.num_proc
    hours = 20_000 / speed / 32 / 3600
    print(f"{speed:.2f} MB/s per core: 20 GB on 32 such cores in {hours:.2f} h")
    if flags.output:
        from sift_trainer.run_log import machine

        result = {
            "machine": machine(),
            "command": sys.argv[1:],
            "results": results,
            "megabytes_per_second_and_process": round(speed, 3),
            "hours_for_20_GB_on_32": hours,
        }
        flags.output.parent.mkdir(parents=True, exist_ok=True)
        flags.output.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
