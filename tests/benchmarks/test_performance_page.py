"""The pages' tables are what docs/benchmarks gives; targets are held to its figures."""

import re

import performance_page
import pytest
from performance_page import PAGES, load, made


def arm(name, **figures):
    return {"name": name, "settings": {}, **figures}


def targets_of(arms, variants=()):
    """Target -> what stands behind the CPU's limit."""
    results = {"step_time_cpu": {"arms": arms}, "scoring_pass_cpu": {"variants": list(variants)}}
    lines = performance_page.targets(results, "").splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(cell[5:] == ["not measured", ""] for cell in cells)
    return {cell[0]: tuple(cell[2:4]) for cell in cells}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_is_what_the_results_give(page):
    """Otherwise: python benchmarks/performance_page.py"""
    text = page.read_text()
    assert made(text, load()) == text


def test_check_says_so(capsys):
    assert performance_page.main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_every_table_is_of_a_result_that_a_benchmark_writes():
    text = "".join(page.read_text() for page in PAGES)
    files = re.findall(r"<!-- table: \w+ (\w+) -->", text)
    scripts = {"step_time", "step_time_compile", "scoring_pass", "growth", "input_pipeline"}
    assert {re.sub("_(cpu|gpu)$", "", file) for file in files} == scripts
    assert text.count("<!-- table:") == text.count("<!-- end of table -->")


def test_a_result_that_is_not_there():
    text = "before\n<!-- table: steps none_gpu -->\nold\n<!-- end of table -->\nafter\n"
    new = made(text, {})
    assert "Not measured yet" in new
    assert "old" not in new
    assert new.startswith("before\n")
    assert new.endswith("\nafter\n")
    assert made(new, {}) == new


def test_a_table_of_no_kind():
    with pytest.raises(ValueError, match="stepz"):
        made("<!-- table: stepz -->\n<!-- end of table -->", {})


def test_targets_met_missed_and_not_measured():
    arms = [
        arm("stock Trainer", peak_mb=1000.0),
        arm("sifting by loss, exit 1", overhead=0.06, ratio_to_stock=0.751, peak_mb=999.0),
        arm(
            "sifting by entropy, exit 1",
            overhead=0.0606,
            overhead_range=[0.05, 0.07],
            ratio_to_stock=0.3,
            processor_ratio_to_stock=0.8,
        ),
        arm("sifting by loss, exit 1, a quarter of the labels", error="RuntimeError: none"),
    ]
    found = targets_of(arms, [arm("entropy, exit 1", entropy_over_loss=1.1)])
    of_scoring = "at exit 1, of forward + backward"
    assert found[f"scoring by loss {of_scoring}"] == ("0.060", "met")
    assert found[f"scoring by entropy {of_scoring}"] == ("0.061 (0.050 - 0.070)", "**missed**")
    assert found["the same by loss, `sift_token_fraction=0.25`"] == ("not measured", "")
    assert found["scoring by entropy at exit 1, of that by loss"] == ("1.100", "met")
    step = "a step sifted by loss at exit 1, of a stock step"
    assert found[step] == ("0.751", "**missed**")
    assert found[step.replace("loss", "entropy")] == ("0.800", "**missed**")
    assert found["its peak memory by loss, of a stock step's"] == ("0.999", "met")
    assert found["its peak memory by entropy, of a stock step's"] == ("not measured", "")


def test_an_arm_that_failed_stands_in_the_table_with_its_error():
    result = {
        "machine": {"accelerator": "GPU", "python": "3.12", "versions": {"torch": "2.11"}},
        "command": ["benchmarks/step_time.py", "--compile"],
        "settings": {"length": 8, "batch_size": 2, "rounds": 3, "steps": 2, "hidden": 4}
        | {"layers": 1, "bf16": True},
        "arms": [
            arm("stock Trainer", step_seconds=0.5, ratio_to_stock=1.0, compiled=False),
            arm("ours, compiled", compiled=True, error="InductorError: a | b\nmore"),
        ],
    }
    table = performance_page.steps({"step_time_compile_gpu": result}, "step_time_compile_gpu")
    assert "python benchmarks/step_time.py --compile" in table
    assert "| ours, compiled | failed: InductorError: a / b |" in table
    assert "2 rows kept of 4" in table
