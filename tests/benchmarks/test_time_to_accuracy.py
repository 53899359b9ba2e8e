"""What runs are charged, what their accuracy would cost, and which of them are still to be done."""

import json

import numpy as np
import pytest
import torch
from study.cells import pays, ratio_cell
from study.charge import AUDIT, Frontier, affordable_steps, charge, charged, sifted_steps
from study.data import flipped, long_tail, repeated, spaced, with_copies
from study.methods import METHODS, scored_by
from study.results import Results, RunSpec, read_lines

HALF = {"sift_keep_ratio": 0.5, "sift_warmup_steps": 0.25, "sift_cooldown_steps": 0.1}


# ---- charging ----


def test_a_sifted_step_costs_scoring_on_top():
    """Of 100 steps those from 25 to 89 sift, 65 of them: 100 + 65 * 0.2."""
    assert sifted_steps(100, HALF) == 65
    assert charge(100, HALF, 0.2) == pytest.approx(113)
    assert charge(100, {"sift_keep_ratio": 1.0}, 0.2) == 100
    every_second = {**HALF, "sift_interval": 2}  # 25, 27, ..., 89
    assert charge(100, every_second, 0.2) == pytest.approx(100 + 33 * 0.2)


def test_the_charge_of_a_part_counts_what_sifted_in_it():
    """The schedule is of the whole run: of the first 50 of 100 steps 25 sift."""
    assert charge(100, HALF, 0.2, upto=50) == pytest.approx(55)
    assert charge(100, HALF, 0.2, upto=20) == 20


def test_audits_are_charged_and_what_a_gate_left_out_is_not():
    """Of 50 steps 0, 20 and 40 are audited; the gate let 7 of those in the schedule sift."""
    gated = {**HALF, "sift_audit_steps": 20}
    audit = AUDIT["candidates"]
    assert charged(50, gated, 0.2, sifted=7) == pytest.approx(50 + 7 * 0.2 + 3 * audit)
    assert charge(100, gated, 0.2) == pytest.approx(113 + 5 * audit)
    gated["sift_held_out"] = "evaluation"
    assert charged(50, gated, 0.2, sifted=7) == pytest.approx(51.4 + 3 * AUDIT["evaluation"])
    gated["sift_gate"] = "descent"  # which is planned for as if it stayed shut
    assert charge(100, gated, 0.2) == pytest.approx(100 + 5 * AUDIT["evaluation"])


@pytest.mark.parametrize("share", [0.0, 0.07, 0.3, 1.2])
@pytest.mark.parametrize("name", METHODS)
def test_a_budget_buys_the_most_steps_that_it_pays_for(name, share):
    sift = METHODS[name].sift
    steps = affordable_steps(300, sift, share)
    assert charge(steps, sift, share) <= 300 < charge(steps + 1, sift, share)


def test_by_hand_what_a_budget_buys():
    """Sifting throughout at s = 0.25: 80 steps cost 100."""
    throughout = {"sift_keep_ratio": 0.5, "sift_warmup_steps": 0.0, "sift_cooldown_steps": 0.0}
    assert affordable_steps(100, throughout, 0.25) == 80
    assert affordable_steps(0.64 * 100, {"sift_keep_ratio": 1.0}, 0.25) == 64
    with pytest.raises(ValueError, match=r"budget=0\.5 units pay for no step; give 1\.25"):
        affordable_steps(0.5, throughout, 0.25)


def test_scoring_is_charged_where_something_is_scored():
    assert scored_by(METHODS["vanilla"].sift) is None
    assert scored_by(METHODS["random"].sift) is None
    assert scored_by(METHODS["loss"].sift) == {
        "criterion": "loss",
        "exit_layer": 1,
        "keep_ratio": 0.5,
        "token_fraction": 1.0,
    }
    assert scored_by(METHODS["exact"].sift)["exit_layer"] == -1


# ---- equal accuracy ----


def frontier():
    """Means .4 at 50, .5 at 100, .6 at 200."""
    return Frontier({50: [0.4], 100: [0.45, 0.55], 200: [0.6]})


def test_cost_of_the_same_accuracy_lies_on_straight_lines():
    assert frontier().cost_of(0.4) == 50
    assert frontier().cost_of(0.45) == pytest.approx(75)
    assert frontier().cost_of(0.575) == pytest.approx(175)
    assert frontier().accuracy_at(150) == pytest.approx(0.55)
    assert str(frontier().ratio(100, 0.55)) == "0.67"  # 100 of 150
    assert str(frontier().ratio(100, 0.45)) == "1.33"  # 100 of 75


def test_nothing_is_extrapolated():
    assert frontier().cost_of(0.61) is None
    assert frontier().cost_of(0.39) is None
    assert str(frontier().ratio(100, 0.7)) == "<0.50"  # vanilla needs more than 200
    assert str(frontier().ratio(100, 0.1)) == ">2.00"  # and here less than 50
    assert frontier().accuracy_at(201) is None
    assert frontier().accuracy_at(49) is None
    with pytest.raises(ValueError, match="run two or more"):
        Frontier({1: [0.5]})


def test_a_frontier_that_falls_is_reached_where_it_is_first():
    """Wrong labels: .5 at 100, .6 at 200, .55 at 400; .55 costs 150 then."""
    falling = Frontier({100: [0.5], 200: [0.6], 400: [0.55]})
    assert falling.cost_of(0.55) == pytest.approx(150)
    assert falling.cost_of(0.65) is None


def test_it_pays_where_every_seed_does():
    """.55 costs 150, .575 costs 175 without sifting."""
    assert pays(frontier(), 100, [0.55, 0.575], most=0.7)
    assert not pays(frontier(), 100, [0.55, 0.5], most=0.7)
    assert pays(frontier(), 100, [0.9], most=0.5)
    assert not pays(frontier(), 1, [0.1], most=0.5)  # cheaper than any run, and worse than all
    assert ratio_cell(frontier(), 100, [0.5, 0.6]) == "0.67 (0.50 to 1.00)"


# ---- results ----


def test_what_is_finished_is_found_again(tmp_path):
    file = tmp_path / "deep" / "results.jsonl"
    results = Results(file)
    spec = RunSpec("author", "loss", 0, 0.64, 2.0)
    assert results.find_run(spec) is None
    asked = {"regime": "author", "method": "loss", "seed": 0, "budget": 0.64, "rate": 2.0}
    results.add("run", **asked, accuracy=0.5)
    for known in (results, Results(file)):
        assert known.find_run(spec)["accuracy"] == 0.5
        assert known.find_run(RunSpec("author", "loss", 0, 0.64)) is None
    assert "versions" in results.lines[0]["machine"]


def test_a_half_written_line_is_no_result_and_spoils_no_other(tmp_path):
    file = tmp_path / "results.jsonl"
    whole = {"kind": "probe", "regime": "author", "begin": 0.25, "held_out": "evaluation"}
    file.write_text(json.dumps(whole) + "\n" + '{"kind": "probe", "regime": "ima')
    results = Results(file)
    assert len(results.lines) == 1
    assert results.find("probe", regime="images", begin=0.25, held_out="candidates") is None
    results.add("probe", regime="images", begin=0.25, held_out="candidates")
    assert [line["regime"] for line in read_lines(file)] == ["author", "images"]


def test_lines_of_something_else_are_left_alone(tmp_path):
    file = tmp_path / "results.jsonl"
    file.write_text('3\n{"kind": "other"}\n{"kind": "run", "regime": "author"}\n')
    assert list(read_lines(file)) == []


# ---- data ----


def test_a_long_tail_falls_by_one_ratio():
    assert long_tail(3, 100, 0.01) == [100, 10, 1]
    assert long_tail(4, 60, 1.0) == [60] * 4
    with pytest.raises(ValueError, match=r"tail=0 must be in \(0, 1\]"):
        long_tail(3, 100, 0)


def test_a_share_of_labels_becomes_another_class_and_always_the_same():
    labels = torch.arange(4000) % 5
    wrong = flipped(labels, 5, 0.2)
    assert (wrong != labels).float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert torch.equal(wrong, flipped(labels, 5, 0.2))
    assert torch.equal(labels, flipped(labels, 5, 0.0))
    assert set(wrong.tolist()) == set(range(5))


def test_repeated_rows_are_as_many_of_each_class():
    even = repeated([np.array([4, 5, 6, 7, 8]), np.array([1, 2])])
    assert [rows.tolist() for rows in even] == [[4, 5, 6, 7, 8], [1, 2, 1, 2, 1]]


def test_copies_are_a_share_of_the_rows_and_the_others_come_once():
    """Six rows once, two more often: 18 of 24 are copies at 0.75."""
    rows = with_copies(np.arange(8), distinct=2, share=0.75).tolist()
    assert len(rows) == 24
    assert rows[:6] == [0, 1, 2, 3, 4, 5]
    assert rows[6:] == [6, 7] * 9
    with pytest.raises(ValueError, match="copies=1 of distinct=2"):
        with_copies(np.arange(8), distinct=2, share=1)


def test_spaced_rows_are_from_all_over():
    assert spaced(np.arange(100), 3).tolist() == [0, 49, 99]
    assert spaced(np.arange(2), 3).tolist() == [0, 1]
