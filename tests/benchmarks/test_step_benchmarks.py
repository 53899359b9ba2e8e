"""Every benchmark of a step at the smallest size: the JSON it writes. No time is asserted."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import all_steps
import audit_cost
import criteria
import growth
import input_pipeline
import pytest
import scoring_pass
import step_time

from tests.reproduction.corpus.small_corpus import DOCUMENTS

SIZE = ["--layers", "2", "--hidden", "64", "--vocabulary", "500", "--length", "20"]
SIZE += ["--batch_size", "2", "--device", "cpu", "--rounds", "1", "--warmup", "0"]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def written(main: Callable[[list[str]], Any], *argv: str) -> dict[str, Any]:
        output = tmp_path / "found" / "result.json"
        main([*argv, "--output", str(output)])
        result = json.loads(output.read_text())
        assert result["machine"]["versions"]["torch"]
        assert result["command"][1:] == [*argv, "--output", str(output)]
        return result

    return written


def finite(row: dict[str, Any], *names: str) -> bool:
    return all(math.isfinite(row[name]) and row[name] > 0 for name in names)


def test_step_time(run) -> None:
    result = run(step_time.main, *SIZE, "--exits", "1", "2", "--no_memory")
    rows = {row["name"]: row for row in result["arms"]}
    assert len(rows) == 3 + 6 + 4
    assert result["settings"]["length"] == 20
    shared = (
        "step_seconds",
        "ratio_to_stock",
        "processor_ratio_to_stock",
        "ratio_to_vanilla",
        "counted_ratio_to_stock",
    )
    for name, row in rows.items():
        assert finite(row, *shared)
        assert ("overhead" in row) == ("sifting by" in name) == ("counted_overhead" in row)
        if "overhead" in row:
            assert finite(row, "overhead", "counted_overhead", "sampling_seconds")
    assert rows["stock Trainer"]["ratio_to_stock"] == 1


def test_audit_cost(run) -> None:
    """The first audit is a warm-up."""
    rows = run(audit_cost.main, *SIZE, "--rounds", "2")["audits"]
    assert [row["name"].split()[-1] for row in rows] == ["candidates", "evaluation"]
    for row in rows:
        assert row["rounds"] == 2
        assert finite(row, "audit_seconds", "step_seconds", "audit_steps", "scoring_share")


def test_peak_memory_is_of_the_process(capfd) -> None:
    """More than the parameters, their gradients and Adam's moments."""
    step_time.main([*SIZE, "--exits", "1", "--memory_of", "sifting by loss, exit 1"])
    assert float(capfd.readouterr().out.splitlines()[-1]) > 1


def test_scoring_pass(run) -> None:
    result = run(scoring_pass.main, *SIZE, "--exits", "1", "2")
    rows = {row["name"]: row for row in result["variants"]}
    assert len(rows) == 2 * 2 * 2 + 2
    for name, row in rows.items():
        assert finite(row, "score_seconds", "share", "counted_share", "share_over_counted")
        assert ("entropy_over_loss" in row) == ("entropy" in name)
    assert rows["loss, exit 1"]["counted_share"] < rows["naive, loss, exit 1"]["counted_share"]


@pytest.mark.parametrize(
    ("sweep", "values", "candidates"),
    [
        ("candidates", ["4", "8"], [4, 8]),
        ("keep_ratio", ["0.5", "0.25"], [4, 8]),
        ("length", ["20", "30"], [4, 4]),
        ("vocabulary", ["500", "600"], [4, 4]),
    ],
)
def test_growth(run, sweep: str, values: list[str], candidates: list[int]) -> None:
    result = run(growth.main, *SIZE, "--sweeps", sweep, "--values", *values)
    assert [row["arm"] for row in result["points"]] == ["stock", "loss", "entropy"] * 2
    for row, value in zip(result["points"], [v for v in values for _ in range(3)], strict=True):
        assert (row["sweep"], row["value"]) == (sweep, float(value))
        assert finite(row, "step_seconds", "ratio_to_stock", "counted_ratio_to_stock")
        if row["arm"] != "stock":
            assert finite(row, "overhead", "counted_overhead")
    sifted = [row["candidates"] for row in result["points"] if row["arm"] == "loss"]
    assert sifted == candidates


def test_input_pipeline(run, tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": document}) + "\n" for document in DOCUMENTS))
    steps = tmp_path / "steps.json"
    arms = [
        {"name": "stock Trainer", "step_seconds": 0.5},
        {"name": "naive sifting by loss, exit 1", "step_seconds": 0.1},
        {"name": "sifting by loss, exit 1", "step_seconds": 0.25},
        {"name": "sifting by entropy, exit 1", "error": "RuntimeError: none"},
    ]
    steps.write_text(json.dumps({"settings": {"batch_size": 4, "length": 32}, "arms": arms}))
    argv = ["--files", str(text), "--vocabulary", "120", "--workers", "0", "1", "--rounds", "1"]
    argv += ["--batches", "2", "--step_time", str(steps)]
    result = run(input_pipeline.main, *argv)
    assert result["settings"]["batch_size"] == 8
    assert result["consumed"]["candidates_per_second"] == 2 * 4 / 0.25
    assert result["consumed"]["stock_rows_per_second"] == 4 / 0.5
    for row in result["pipelines"]:
        assert finite(row, "sequences_per_second")
        assert row["of_consumed"] == row["sequences_per_second"] / 32
        assert row["of_consumed_by_stock"] == row["sequences_per_second"] / 8


def test_parts_that_fail_are_recorded_and_the_rest_goes_on(tmp_path: Path, monkeypatch) -> None:
    """A script that is not there, one that ends well, and one for which there is no time."""
    fine = tmp_path / "fine.py"
    fine.write_text(
        "import sys, pathlib\npathlib.Path(sys.argv[sys.argv.index('--output') + 1]).touch()\n"
    )
    parts = {name: (script, [], 0.5) for name, script in (("no", "no.py"), ("yes", str(fine)))}
    monkeypatch.setattr(all_steps, "PARTS", parts)
    argv = ["--output", str(tmp_path), "--device", "cpu", "--parts", "no", "yes"]
    assert all_steps.main(argv) == 1
    told = json.loads((tmp_path / "all_steps_cpu.json").read_text())["parts"]
    assert (told["no"]["error"], told["no"]["written"]) == ("exit status 2", False)
    assert (told["yes"]["error"], told["yes"]["written"]) == (None, True)
    assert all_steps.main([*argv, "--minutes", "0"]) == 1
    told = json.loads((tmp_path / "all_steps_cpu.json").read_text())["parts"]
    assert {part["error"] for part in told.values()} == {"not begun: the time was up"}


def test_the_parts_are_benchmarks() -> None:
    assert all((all_steps.FOLDER / script).is_file() for script, _, _ in all_steps.PARTS.values())
    assert sum(share for _, _, share in all_steps.PARTS.values()) < 1


def test_criteria(capsys) -> None:
    seconds = criteria.main(["--rows", "4", "--vocabulary", "50", "--rounds", "2"])
    assert [len(taken) for taken in seconds.values()] == [2] * 5
    assert capsys.readouterr().out.count(" ms") == 10
