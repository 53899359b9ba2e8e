"""The report over what the two experiments really write, tiny."""

from pathlib import Path

import torch

from sift_trainer.__main__ import main
from sift_trainer.reproduction import bert as pretraining
from sift_trainer.reproduction import resnet as image_classification
from tests.image_classification.toy import table, tiny
from tests.reproduction.bert.toy import TINY, flags, on_a_file

torch.set_num_threads(1)


def report(folder: Path) -> str:
    assert main(["report", str(folder), "--output", str(folder / "page")]) == 0
    return (folder / "page" / "report.md").read_text()


def section(text: str, title: str) -> list[list[str]]:
    """The cells of the table below a heading, without the rule under its head."""
    lines = text.partition(title)[2].split("\n\n")[1].splitlines()
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]
    return [rows[0], *rows[2:]]


def test_two_seeds_of_a_pretraining(tmp_path: Path) -> None:
    corpus = on_a_file(tmp_path, 100)
    others = {"use_cpu": "true", "report_to": "none", "disable_tqdm": "true"}
    for seed in (0, 1):
        output = {"output_dir": tmp_path / "runs" / f"seed_{seed}", "seed": seed}
        argv = [*corpus, *flags(**TINY, **others, **output), "--runs", "vanilla", "entropy"]
        pretraining.main(argv)
    text = report(tmp_path / "runs")
    assert "4 whole runs, 0 not in the tables" in text
    assert "A single seed" not in text
    rows = section(text, "### Table 1")
    measured = [(row[0], row[1], row[6], row[7]) for row in rows if row[3] not in ("-", "measured")]
    assert measured == [
        ("Baseline", "N/A", "2", "vanilla"),
        ("Entropy-based", "1 of 2", "2", "entropy"),
    ]
    setting = {name: here for name, _, here in section(text, "### The setting")[1:]}
    assert (setting["updates"], setting["rows of an update"]) == ("6", "4")
    assert setting["sifting from update"] == "2"


def test_image_classification_of_the_same_time(tmp_path: Path) -> None:
    image_classification.main(tiny(tmp_path, table(tmp_path, 2, [1e-2])))
    text = report(tmp_path / "out")
    assert "3 whole runs, 0 not in the tables" in text
    head, row = section(text, "### As Tables 2 to 5: generic, same training time")
    assert head == ["max_lr", "baseline", "early exit", "last exit"]
    assert row[0] == "0.01"
    assert all(float(cell) >= 0 for cell in row[1:])
