"""The numbers of a run's log and of the closing tables, against ones worked out by hand."""

import json
import struct

import pytest

from sift_trainer.reproduction.report import write_closing_tables
from sift_trainer.reproduction.report.history import summarize, totals, totals_at
from tests.reproduction.report.made_up import PLAIN, write_run


def training_line(step, sampling, forward, samples, candidates):
    """Backward, optimizer and data take 2, 1 and 0.5 seconds per ten steps."""
    seconds = {
        "sampling": sampling,
        "forward": forward,
        "backward": step / 5,
        "optimizer": step / 10,
        "data": step / 20,
    }
    line = {f"sift/{phase}_hours": value / 3600 for phase, value in seconds.items()}
    line |= {f"sift/{phase}_seconds": -1.0 for phase in seconds}  # intervals: not to be read
    return line | {
        "loss": 1.0,
        "sift/backprop_samples": samples,
        "sift/candidates": candidates,
        "step": step,
    }


def evaluation_line(step, mlm):
    return {"eval_mlm_accuracy": mlm, "eval_runtime": 1e6, "step": step}


# Ten steps: 1 + 2 + 1 + 0.5 = 4.5 s of everything but sampling.
# Draws 16 rows per step, sifts between steps 10 and 30 for 0.9 s per ten steps.
LOSS = [
    training_line(10, 0.0, 1, 80, 160),
    evaluation_line(10, 0.1),
    training_line(20, 0.9, 2, 160, 320),
    evaluation_line(20, 0.2),
    training_line(30, 1.8, 3, 240, 480),
    evaluation_line(30, 0.35),
    training_line(40, 1.8, 4, 320, 640),
    evaluation_line(40, 0.4),
]


def test_the_final_numbers_of_a_run():
    final = summarize("loss", LOSS).final
    assert final.accuracy == 0.4
    assert final.spent.seconds == pytest.approx(
        {"sampling": 1.8, "forward": 4, "backward": 8, "optimizer": 4, "data": 2}
    )
    assert final.spent.total_seconds == pytest.approx(19.8)
    assert (final.spent.backprop_samples, final.spent.candidates) == (320, 640)


def test_totals_between_two_log_lines_are_linear_from_zero():
    spent = totals(LOSS)
    assert totals_at(spent, 5).backprop_samples == 40
    at = totals_at(spent, 15)
    assert at.seconds["sampling"] == pytest.approx(0.45)
    assert at.seconds["forward"] == pytest.approx(1.5)
    assert at.total_seconds == pytest.approx(0.45 + 4.5 * 1.5)
    assert at.candidates == 240


def test_an_evaluation_after_the_last_totals_is_refused():
    with pytest.raises(ValueError, match=r"run 'loss': step 45 .* at step 40; log at every"):
        summarize("loss", [*LOSS, evaluation_line(45, 0.5)])


def test_seconds_to_an_accuracy_are_read_off_the_curve():
    """From 0.2 at 9.9 s to 0.35 at 15.3 s: two thirds of the way to 0.3 is at 13.5 s."""
    run = summarize("loss", LOSS)
    assert run.seconds_to(0.3) == pytest.approx(9.9 + 5.4 * 2 / 3)
    assert run.seconds_to(0.05) == pytest.approx(4.5)
    assert run.seconds_to(0.41) is None


def test_the_closing_tables_of_a_training(tmp_path):
    """Two learning rates in a grid, and a run that has not ended."""
    for rate, loss in ((1e-3, 0.4), (1e-4, 0.7)):
        cell = tmp_path / f"learning_rate_{rate}"
        write_run(cell / "vanilla", [0.2, 0.6], sift=PLAIN, learning_rate=rate)
        write_run(cell / "loss", [0.2, loss], sampling=0.3, learning_rate=rate)
    write_run(tmp_path / "learning_rate_0.0001" / "late", [0.1], finished=False)
    text = write_closing_tables(tmp_path, {"model": "mine"})
    assert (tmp_path / "table.md").read_text() == text
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    worse, better = (row for row in rows if row[0] == "loss" and len(row) == 6)
    assert better[2:] == ["0.7000", "+0.1000", "6.60", "1.10x"]
    assert worse[2:] == ["0.4000", "-0.2000", "6.60", "1.10x"]
    assert "- learning_rate_0.0001/late: unfinished: the log stops at step 10" in text
    results = json.loads((tmp_path / "results.json").read_text())
    assert {run["points"][-1]["accuracy"] for run in results["runs"]} == {0.6, 0.4, 0.7}
    assert results["model"] == "mine"
    for number in (1, 2):
        content = (tmp_path / f"{tmp_path.name}_{number}.png").read_bytes()
        width, height = struct.unpack(">II", content[16:24])
        assert width > 1400 > height > 500
        assert len(content) > 20_000
