"""Tables 1 to 6, time to a target and caveats of made-up runs, worked out by hand."""

import re
from pathlib import Path
from typing import Any

import pytest

from sift_trainer.reproduction.report.caveats import caveats
from sift_trainer.reproduction.report.groups import Comparison, compare
from sift_trainer.reproduction.report.history import find_runs
from sift_trainer.reproduction.report.paper_tables import (
    image_table,
    table_1_and_6,
)
from sift_trainer.reproduction.report.tables import (
    choose_target,
    results_table,
    spending_table,
    target_table,
)
from sift_trainer.reproduction.run_log import FILE
from tests.reproduction.report import made_up
from tests.reproduction.report.made_up import PLAIN, edit_start, resnet, seeds_of_table_1, write_run

LAST = {"sift_exit_layer": -1}
ENTROPY = {"sift_criterion": "entropy"}


def comparisons(folder: Path) -> list[Comparison]:
    runs, left_out = find_runs([folder])
    assert not left_out
    return compare(runs)


def only(folder: Path) -> Comparison:
    (comparison,) = comparisons(folder)
    return comparison


def test_runs_that_differ_in_more_than_sifting_are_not_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "baseline", [0.1], sift=PLAIN)
    write_run(tmp_path / "loss", [0.2], learning_rate=1e-3)
    first, second = comparisons(tmp_path)
    assert (first.baseline, second.baseline) == (first.groups[0], None)
    (text,) = [line for line in caveats(second) if "no baseline" in line]
    assert text.endswith("in sifting alone from: loss.")


def test_table_1_has_the_papers_rows_with_the_measured_ones_beside_them(tmp_path: Path) -> None:
    seeds_of_table_1(tmp_path)
    write_run(tmp_path / "entropy_last", [0.7] * 4, sift={"sift_criterion": "entropy", **LAST})
    write_run(tmp_path / "drawn", [0.5] * 4, sift={"sift_criterion": "random"})
    found = table_1_and_6(only(tmp_path))
    assert [row["paper"] for row in found[:3]] == ["0.6466", "0.6599", "0.6597"]
    baseline, loss = found[0], found[1]
    assert (baseline["measured"], baseline["measured: to baseline"]) == ("0.6600", "+0.0000")
    assert loss["measured"] == "0.6900 (0.6800 to 0.7000)"
    assert loss["measured: to baseline"] == "+0.0300"
    assert (loss["paper: to baseline"], loss["seeds"], loss["layer"]) == ("+0.0133", "2", "1 of 12")
    assert found[2]["measured"] == found[2]["run"] == "-"
    last = found[10]
    assert (last["algorithm"], last["layer"]) == ("Entropy-based", "12 of 12")
    assert (last["paper"], last["measured"]) == ("0.6664", "0.7000")
    assert (len(found), found[11]["run"], found[11]["paper"]) == (12, "drawn", "-")


def test_sampling_is_a_share_of_forward_and_backward(tmp_path: Path) -> None:
    """0.3 h of sampling to each 1 + 2 h, four times; the paper has 0.8452 of 3.8 + 7.9."""
    loss = table_1_and_6(only(seeds_of_table_1(tmp_path)))[1]
    assert (loss["paper: sampling"], loss["measured: sampling"]) == ("7.2%", "10.0%")


def test_time_and_samples_to_the_papers_target(tmp_path: Path) -> None:
    """3 h between the baseline's evaluations, 3.3 h between the sifted runs'.

    The baseline passes 0.64 at two thirds from 9 h to 12 h: 11 h. By loss it is 14 of 16 parts from
    6.6 h to 9.9 h, 9.4875 h, for one seed, and 14 of 18 parts, 9.1667 h, for the other.
    """
    comparison = only(seeds_of_table_1(tmp_path))
    target = choose_target(comparison, None)
    assert (target.accuracy, target.why) == (0.64, "the paper's, which the baseline reaches")
    baseline, loss = target_table(comparison, target)
    assert (baseline["time (h)"], baseline["time ratio"]) == ("11.00", "1.00x")
    assert loss["time (h)"] == "9.33 (9.17 to 9.49)"
    assert loss["time ratio"] == "0.85x"
    assert loss["paper: time ratio"] == "0.75x"
    assert loss["seeds that reach it"] == "2 of 2"
    # 256 rows in each of 28.75 and 27.78 steps, of 36.67
    assert loss["samples trained on"] == "7,236 (7,111 to 7,360)"
    assert loss["samples ratio"] == "0.77x"


def test_the_target_is_what_all_reach_where_the_baseline_stays_below_the_papers(
    tmp_path: Path,
) -> None:
    write_run(tmp_path / "baseline", [0.1, 0.4, 0.3], sift=PLAIN)
    write_run(tmp_path / "loss", [0.2, 0.3, 0.35])
    comparison = only(tmp_path)
    target = choose_target(comparison, None)
    assert target.accuracy == 0.35
    assert target.why == "the highest that all runs reach"
    assert choose_target(comparison, 0.2).accuracy == 0.2


def test_a_mean_over_seeds_of_which_one_stays_below_the_target_is_not_given(tmp_path: Path) -> None:
    comparison = only(seeds_of_table_1(tmp_path))
    baseline, loss = target_table(comparison, choose_target(comparison, 0.69))
    assert (baseline["seeds that reach it"], loss["seeds that reach it"]) == ("0 of 2", "1 of 2")
    assert loss["time (h)"] == "-"
    assert loss["time ratio"] == loss["samples ratio"] == "-"


def test_times_on_different_machines_are_not_held_to_each_other(tmp_path: Path) -> None:
    seeds_of_table_1(tmp_path)
    for seed in (0, 1):
        entropy = {"sift_criterion": "entropy"}
        write_run(tmp_path / f"seed_{seed}" / "entropy", [0.64] * 4, sift=entropy, seed=seed)
    edit_start(tmp_path / "seed_1" / "loss_exit_1", cores=999)
    comparison = only(tmp_path)
    _, loss, entropy_row = target_table(comparison, choose_target(comparison, None))
    assert loss["time ratio"] == "-"
    assert entropy_row["time ratio"] == "0.27x"  # 3 h of 11 h, on the baseline's machine
    assert loss["samples ratio"] == "0.77x"


def test_results_and_spending(tmp_path: Path) -> None:
    comparison = only(seeds_of_table_1(tmp_path))
    _, loss = results_table(comparison)
    assert list(loss.values()) == [
        *("loss_exit_1", "2", "0.6900 (0.6800 to 0.7000)", "+0.0300"),
        *("13.20", "1.10x"),
    ]
    spent = spending_table(comparison)[1]
    assert (spent["updates"], spent["sampling (h)"]) == ("40", "1.20")
    assert (spent["backpropagated"], spent["candidates"]) == ("10,240", "20,480")


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """Two learning rates, one of them the paper's; the last exit is missing in its cell."""
    for rate, shift in ((1e-2, 0.0), (2e-2, 0.1)):
        cell = tmp_path / f"learning_rate_{rate}"
        for name, accuracy, sift, duration in (
            ("baseline", 0.5, PLAIN, {}),
            ("early_exit", 0.6, {}, {}),
            ("early_exit_same_time", 0.55, {}, {"same_time_as": "baseline"}),
            ("last_exit", 0.7, LAST, {}),
        ):
            if name != "last_exit" or rate == 2e-2:
                settings = resnet(**duration)
                accuracies = [0.1, accuracy + shift]
                flags = {"sift": sift, "settings": settings, "learning_rate": rate}
                write_run(cell / name, accuracies, **flags)  # type: ignore[arg-type]
    return tmp_path


def test_tables_2_and_3_have_a_row_for_each_learning_rate(grid: Path) -> None:
    time, updates = (image_table(comparisons(grid), same_time) for same_time in (True, False))
    assert [row["max_lr"] for row in updates] == ["0.05", "0.02", "0.01", "0.005", "0.001"]
    assert list(updates[2].values()) == ["0.01", "69.04", "50.00", "75.41", "60.00", "74.48", "-"]
    assert list(updates[1].values()) == ["0.02", "-", "60.00", "-", "70.00", "-", "80.00"]
    assert (time[2]["measured: early exit"], time[2]["measured: last exit"]) == ("55.00", "-")


def said(folder: Path) -> str:
    return "\n".join(caveats(only(folder)))


def test_runs_with_all_that_they_need_are_only_smaller_than_the_papers(tmp_path: Path) -> None:
    (line,) = said(seeds_of_table_1(tmp_path)).splitlines()
    assert "smaller or larger than the paper's" in line


def test_runs_of_the_papers_size_have_no_caveat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four evaluations, 200,000 steps apart."""
    monkeypatch.setattr(made_up, "EVERY", 200_000)
    monkeypatch.setitem(made_up.SIFT, "sift_warmup_steps", 20_000.0)
    assert said(seeds_of_table_1(tmp_path)) == ""


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ({"entropy": {"sift": ENTROPY}}, "A single seed, .*: entropy\\."),
        ({"a/base": {"sift": PLAIN}, "b/base": {"sift": PLAIN}}, "A single seed, .*: base\\."),
        ({"base": {"rates": [1e-4, 2.5e-5]}}, "not fully decayed.*: base \\(25% of its peak"),
    ],
)
def test_caveats(runs: dict[str, dict[str, Any]], text: str, tmp_path: Path) -> None:
    for name, values in runs.items():
        write_run(tmp_path / name, **{"accuracies": [0.1, 0.2], **values})
    assert any(map(re.compile(text).search, said(tmp_path).splitlines()))


def test_a_rate_that_was_not_logged_at_the_end_is_not_guessed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "baseline", [0.2] * 4, sift=PLAIN)
    text = (run / FILE).read_text().replace('"learning_rate": 0.0, ', "")
    (run / FILE).write_text(text)
    assert "baseline (100% of its peak at update 30 of 40)" in said(tmp_path)


def test_machines_that_differ(tmp_path: Path) -> None:
    seeds_of_table_1(tmp_path)
    edit_start(tmp_path / "seed_1" / "loss_exit_1", accelerator="NVIDIA A100")
    text = said(tmp_path)
    assert "Machines differ, and times on different machines are not compared" in text
    assert "NVIDIA A100" in text
    assert "seed_1/loss_exit_1" in text
