"""What audits come to on a log line, by numbers worked out by hand."""

import math

import pytest
import torch

from sift_trainer.audit import audit_metrics
from sift_trainer.audit.audit_numbers import ADAM, NAMES, PLAIN, choice_numbers, update_numbers
from sift_trainer.scoring import UNLABELLED


def test_choices_of_four_rows_by_hand() -> None:
    """Exact losses 1, 2, 3, 6; scores order them 2, 1, 4, 3."""
    losses, scores = torch.tensor([1.0, 2, 3, 6]), torch.tensor([2.0, 1, 6, 3])
    kept, exact = torch.tensor([2, 3]), torch.tensor([2, 3])
    found = choice_numbers(losses, scores, kept, exact, approximates_loss=True)
    assert found["overlap"] == 1
    assert found["spearman"] == pytest.approx(1 - 6 * 4 / (4 * 15))
    assert found["agreement"] == 0  # of the pairs (1, 2) and (3, 6) both are turned round
    larger = [2, 3, 6, 3, 6, 6]  # of all six pairs
    assert found["rho_2"] == pytest.approx(sum(larger) / 6 / 3)
    chosen = [1, 3, 6, 3, 6, 3]  # by the larger score
    assert found["rho_2_approx"] == pytest.approx(sum(chosen) / 6 / 3)
    ratios = torch.tensor([2, 1 / 2, 2, 1 / 2], dtype=torch.float64).log()
    assert found["sigma"] == pytest.approx(float(ratios.std()))
    assert (found["kept_loss"], found["dropped_loss"]) == (4.5, 1.5)


def test_what_has_no_meaning_is_left_out() -> None:
    """Scores that are no losses have no sigma; rows without a label or of no loss are no rows."""
    losses = torch.tensor([0.0, 0.0, 0.0, UNLABELLED])
    scores = torch.tensor([0.1, 0.3, 0.2, torch.nan])
    found = choice_numbers(
        losses, scores, torch.tensor([0, 1]), torch.tensor([0, 1]), approximates_loss=False
    )
    assert set(found) == {"overlap", "kept_loss", "dropped_loss"}
    assert (found["kept_loss"], found["dropped_loss"]) == (0, 0)


def test_updates_by_hand() -> None:
    held_out, kept = [torch.tensor([1.0, 2.0]), None], [torch.tensor([3.0, 4.0]), torch.ones(1)]
    random = [torch.tensor([0.0, 2.0]), None]
    found = update_numbers(PLAIN, held_out, kept, random, keep_ratio=0.25)
    assert found["descent_kept"] == 11
    assert found["descent_kept_at_equal_length"] == pytest.approx(11 / 26**0.5)
    assert found["descent_random"] == 4
    assert found["descent_random_at_equal_length"] == 2
    # Random rows are a quarter kept and three quarters dropped ones.
    assert 0.25 * 11 + 0.75 * found["descent_dropped"] == pytest.approx(4)
    scales = [torch.tensor([10.0, 1.0]), torch.ones(1)]
    scaled = update_numbers(ADAM, held_out, kept, random, 0.25, scales)
    assert scaled["adam_descent_kept"] == 1 * 10 * 3 + 2 * 4
    assert scaled["adam_descent_kept_at_equal_length"] == pytest.approx(38 / math.hypot(30, 4, 1))


def test_a_log_line_has_means_and_ratios_of_means() -> None:
    audits = [
        {"descent_kept": 3.0, "descent_random": 1.0, "descent_dropped": -1.0, "scoring_share": 0.2},
        {"descent_kept": 1.0, "descent_random": 3.0, "descent_dropped": 5.0, "scoring_share": 0.4},
    ]
    for audit in audits:
        audit["descent_kept_at_equal_length"] = 4.0
        audit["descent_random_at_equal_length"] = 1.0
    audits[0] |= {"rho_2": 1.2, "overlap": 0.5}
    logged = audit_metrics(audits)
    assert logged == {
        "sift_audit/overlap": 0.5,  # of the one that has it
        "sift_audit/rho_2": 1.2,
        "sift_audit/sigma_max": pytest.approx(math.log(18 * 1.2 / (25 - 7 * 1.2)) / 2**0.5),
        "sift_audit/descent_kept": 2.0,
        "sift_audit/descent_random": 2.0,
        "sift_audit/scoring_share": pytest.approx(0.3),
        "sift_audit/break_even": pytest.approx(0.3 / 1.3),
        "sift_audit/descent_ratio": pytest.approx(1 / 1.3),
        "sift_audit/descent_ratio_at_equal_length": pytest.approx(4 / 1.3),
        "sift_audit/descent_dropped_ratio": pytest.approx(1.0),
    }


def test_no_ratio_to_nothing() -> None:
    audit = {**dict.fromkeys(NAMES, -1.0), "scoring_share": 0.1}
    assert not [name for name in audit_metrics([audit]) if "ratio" in name]
    assert audit_metrics([]) == {}
