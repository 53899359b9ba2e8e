"""Greedy SGD against SGD where everything is known: the tables and figures of docs/theory.md.

scripts/reproduce_theory.py                              # all of it, two minutes on one core
scripts/reproduce_theory.py --fast --output runs/theory  # seconds, for a look
"""

import argparse
from pathlib import Path

from sift_trainer.checkpoints.whole_files import write_json, write_text
from sift_trainer.reproduction.theory.figures import draw
from sift_trainer.reproduction.theory.study import FAST, Size, study
from sift_trainer.reproduction.theory.tables import BEGIN, END, tables, with_tables

DOCS = Path(__file__).resolve().parents[1] / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=DOCS, help="folder (default: docs)")
    parser.add_argument("--fast", action="store_true", help="few short runs; not into docs")
    flags = parser.parse_args()
    if flags.fast and flags.output.resolve() == DOCS:
        parser.error("--fast needs --output FOLDER: docs holds the results of full runs")
    found = study(FAST if flags.fast else Size())
    print(tables(found))
    page = flags.output / "theory.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else f"{BEGIN}\n{END}\n"
    write_text(page, with_tables(text, found))
    write_json(flags.output / "benchmarks" / "theory.json", found)
    for path in draw(found, flags.output):
        print(path)


if __name__ == "__main__":
    main()
