"""The tables of the pages are those of their data files in docs/benchmarks."""

import json
from dataclasses import asdict
from pathlib import Path
from statistics import mean

import performance_page
import pytest
import yaml
from label_noise import METHODS

from sift_trainer import SiftArguments

DOCS = Path(__file__).resolve().parents[2] / "docs"
CARD = (DOCS / "method_card.md").read_text()
NAMES = {"vanilla": "no selection", "loss": "SIFT, loss", "entropy": "SIFT, entropy"}
NAMES |= {"ordered_sgd": "Ordered SGD", "selective_backprop": "Selective-Backprop"}


def test_performance() -> None:
    """Otherwise: python benchmarks/performance_page.py"""
    assert performance_page.main(["--check"]) == 0


# ---- the method card ----


def rows_of(heading: str) -> list[list[str]]:
    """Cells of the first table below a line of the card that contains ``heading``."""
    lines = iter(CARD.split(heading, 1)[1].splitlines()[1:])
    table: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
        elif table:
            break
    return table[2:]


def test_the_relatives_are_those_of_the_benchmark() -> None:
    lines = [row[1].strip("`") for row in rows_of("## The relatives")]
    runs = {name: settings for line in lines for name, settings in yaml.safe_load(line).items()}
    assert len(runs) == 6
    for name, settings in runs.items():
        settings.pop("sift_masked_only_head", None)  # of language models
        measured = METHODS[NAMES.get(name, name)]
        assert asdict(SiftArguments(**settings)) == asdict(SiftArguments(**measured)), name


@pytest.mark.parametrize(
    ("heading", "file"),
    [
        ("learn wrong labels by heart:", "label_noise.json"),
        ("as much as before:", "label_noise_8192_rows.json"),
    ],
)
def test_wrong_labels(heading: str, file: str) -> None:
    results = json.loads((DOCS / "benchmarks" / file).read_text())["results"]
    table = {row[0]: row[1:] for row in rows_of(heading)}
    assert set(table) == set(METHODS)
    for name, cells in table.items():
        clean, noisy = (r["runs"] for r in results if r["method"] == name)
        columns = [
            [run["accuracy"] for run in clean],
            [run["accuracy"] for run in noisy],
            [run["flipped_kept"] for run in noisy],
        ]
        for cell, values in zip(cells, columns, strict=True):
            assert cell == f"{mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
