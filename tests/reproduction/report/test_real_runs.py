"""The report over what a training really writes, tiny."""

from pathlib import Path

import torch

from sift_trainer.__main__ import main
from sift_trainer.reproduction import bert as pretraining
from tests.reproduction.bert.toy import TINY, flags, on_a_file

torch.set_num_threads(1)


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
    assert main(["report", str(tmp_path / "runs")]) == 0
    text = (tmp_path / "runs" / "report" / "report.md").read_text()
    assert "whole runs: 4, not in the tables: 0" in text
    assert "A single seed" not in text
    rows = section(text, "### Tables 1 and 6")[1:]
    measured = [(row[0], row[1], row[-2], row[-1]) for row in rows if row[3] != "-"]
    assert measured == [
        ("Baseline", "-", "2", "vanilla"),
        ("Entropy-based", "1 of 2", "2", "entropy"),
    ]
    assert "updates 6, not 800000" in text
    assert "rows of an update 4, not 256" in text
