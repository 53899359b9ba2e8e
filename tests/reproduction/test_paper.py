"""The paper's numbers against copies of them made elsewhere, and against what the paper says of
them in words."""

import re
from pathlib import Path

import pytest

from sift_trainer.reproduction import paper

ROOT = Path(__file__).parents[2]


def test_table_1_is_what_the_configurations_of_its_rows_say() -> None:
    said = {}
    for file in (ROOT / "configs" / "bert_base").glob("*_exit_*.yaml"):
        criterion, _, layer = file.stem.partition("_exit_")
        found = re.search(r"(0\.\d{4}) validation accuracy in the paper", file.read_text())
        assert found, file
        said[criterion, int(layer)] = float(found[1])
    assert said == {
        (criterion, layer): accuracy
        for criterion, row in paper.ACCURACY.items()
        for layer, accuracy in row.items()
    }
    baseline = (ROOT / "configs" / "bert_base" / "baseline.yaml").read_text()
    assert f"{paper.BASELINE_ACCURACY} validation accuracy" in baseline


def test_section_7_1_says_by_how_much_the_first_exit_is_better() -> None:
    """Caption of Figure 1: 1.33% by loss, 1.75% by entropy; and where the best exits are."""
    better = {name: row[1] - paper.BASELINE_ACCURACY for name, row in paper.ACCURACY.items()}
    assert better == pytest.approx({"loss": 0.0133, "entropy": 0.0175})
    assert max(paper.ACCURACY["loss"], key=paper.ACCURACY["loss"].__getitem__) == 12
    assert max(paper.ACCURACY["entropy"], key=paper.ACCURACY["entropy"].__getitem__) == 6


def test_table_6_is_on_a_line_as_one_block_costs_what_the_next_does() -> None:
    for row in paper.SAMPLING_HOURS.values():
        slope = (row[12] - row[1]) / 11
        for layer, hours in row.items():
            assert hours == pytest.approx(row[1] + slope * (layer - 1), abs=0.1)
    computed = paper.FORWARD_HOURS + paper.BACKWARD_HOURS
    shares = (ROOT / "docs" / "reproduction.md").read_text()
    for criterion, named in (("loss", "loss (Table 6, of 3.8 + 7.9)"), ("entropy", "entropy")):
        expected = [f"{hours / computed:.1%}" for hours in paper.SAMPLING_HOURS[criterion].values()]
        assert f"the paper's hours, {named} | {' | '.join(expected)} |" in shares


def test_hours_to_the_target_are_those_of_the_abstract() -> None:
    readme = (ROOT / "README.md").read_text()
    said = re.search(
        r"reaches (\d+)% validation accuracy with BERT-base in (\d+)\s+hours instead of (\d+)",
        readme,
    )
    assert said
    target, sifted, baseline = map(int, said.groups())
    assert target == 100 * paper.TARGET_ACCURACY
    assert sifted == paper.HOURS_TO_TARGET["loss"][1]
    assert baseline == paper.BASELINE_HOURS_TO_TARGET
    # "by 0.75 and 0.70": 43 and 40 of 57 hours
    ratios = [row[1] / baseline for row in paper.HOURS_TO_TARGET.values()]
    assert ratios == pytest.approx([0.754, 0.702], abs=5e-4)


def test_tables_2_to_5_are_those_of_the_documentation() -> None:
    text = (ROOT / "docs" / "resnet.md").read_text()
    rows = re.findall(r"^\| (\de-\d) \| (.*) \|$", text, flags=re.MULTILINE)
    assert len(rows) == 4
    for rate, cells in rows:
        for table, cell in zip(paper.IMAGE_TABLES.values(), cells.split(" | "), strict=True):
            said = tuple(None if value == "-" else float(value) for value in cell.split())
            assert table[float(rate)] == said


def test_the_best_of_each_method_are_in_the_order_of_the_captions() -> None:
    """Caption of Table 2: early exit > last exit > baseline; of the others: last > early."""
    for (dataset, same_time), rows in paper.IMAGE_TABLES.items():
        best = [max(x for x in column if x) for column in zip(*rows.values(), strict=True)]
        baseline, early, last = best
        assert baseline < min(early, last)
        assert (early > last) == ((dataset, same_time) == ("cifar100", True))
        # The baseline is the same run in the tables of one data set.
        other = paper.IMAGE_TABLES[dataset, not same_time]
        assert [row[0] for row in rows.values()] == [row[0] for row in other.values()]
