"""Agreement, descent, intervals and log lines against numbers worked out by hand."""

import math

import pytest
import torch

from sift_trainer.measuring.agreement import spearman
from sift_trainer.measuring.audit_numbers import (
    ADAM,
    audit_metrics,
    choice_numbers,
    update_numbers,
)
from sift_trainer.probe.numbers import mean_over_batches, ratio_of_means
from sift_trainer.scoring.criteria import UNLABELLED


def test_rank_correlation_is_that_of_the_textbook() -> None:
    """1 - 6 sum d^2 / (n (n^2 - 1)) without ties; None for numbers without an order."""
    first, second = torch.tensor([2.0, 0, 3, 1]), torch.tensor([1.0, 0, 2, 3])
    assert spearman(first.exp(), second.double().pow(3)) == pytest.approx(1 - 6 * 6 / (4 * 15))
    assert spearman(torch.arange(4.0), torch.ones(4)) is None
    # Ranks 2.5, 1, 2.5, 0 with 0, 1, 2, 3: covariance -0.75, variances 1.125 and 1.25.
    tied = spearman(torch.tensor([3.0, 1.0, 3.0, 0.0]), torch.arange(4.0))
    assert tied == pytest.approx(-0.75 / math.sqrt(1.125 * 1.25))


def test_undefined_numbers_are_missing() -> None:
    """Losses of 0 have no order, and scores that are no losses have no sigma."""
    losses = torch.tensor([0.0, 0.0, 0.0, UNLABELLED])
    scores = torch.tensor([0.1, 0.3, 0.2, torch.nan])
    rows = torch.tensor([0, 1])
    found = choice_numbers(losses, scores, rows, rows, approximates_loss=False)
    assert found == {"overlap": 1, "kept_loss": 0, "dropped_loss": 0}


def test_adamws_updates() -> None:
    held_out, kept = [torch.tensor([1.0, 2.0]), None], [torch.tensor([3.0, 4.0]), torch.ones(1)]
    random, scales = [torch.tensor([0.0, 2.0]), None], [torch.tensor([10.0, 1.0]), torch.ones(1)]
    found = update_numbers(ADAM, held_out, kept, random, 0.25, scales)
    assert (found["adam_descent_kept"], found["adam_descent_random"]) == (1 * 10 * 3 + 2 * 4, 4)
    assert found["adam_descent_kept_at_equal_length"] == pytest.approx(38 / math.hypot(30, 4, 1))
    # Random rows are a quarter kept and three quarters dropped ones.
    assert 0.25 * 38 + 0.75 * found["adam_descent_dropped"] == pytest.approx(4)


def test_a_log_line_has_means_and_ratios_of_means() -> None:
    audits = [
        {"descent_kept": 3.0, "descent_random": 1.0, "descent_dropped": -1.0, "scoring_share": 0.2},
        {"descent_kept": 1.0, "descent_random": 3.0, "descent_dropped": 5.0, "scoring_share": 0.4},
    ]
    for audit in audits:
        audit |= {"descent_kept_at_equal_length": 4.0, "descent_random_at_equal_length": 1.0}
    audits[0] |= {"rho_2": 1.2, "overlap": 0.5}
    assert audit_metrics(audits) == {
        "sift_audit/overlap": 0.5,  # only one audit has it
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
    uphill = {**dict.fromkeys(audits[0], -1.0), "scoring_share": 0.1}
    assert not [name for name in audit_metrics([uphill]) if "ratio" in name]
    assert audit_metrics([]) == {}


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    """For many batches the bootstrap's percentiles are mean -+ 1.96 s / sqrt(n)."""
    draw = torch.Generator().manual_seed(0)
    values = 5 + 2 * torch.randn(400, generator=draw, dtype=torch.float64)
    found = mean_over_batches(values.tolist())
    half = 1.96 * float(values.std()) / math.sqrt(400)
    assert found is not None
    assert found.value == pytest.approx(float(values.mean()))
    assert found.low == pytest.approx(found.value - half, abs=0.15 * half)
    assert found.high == pytest.approx(found.value + half, abs=0.15 * half)


def test_a_ratio_is_of_means() -> None:
    """There is none if the mean below may be 0."""
    found = ratio_of_means([1.0, 9.0], [2.0, 3.0])
    assert found is not None
    assert (found.value, found.low, found.high) == (2.0, 0.5, 3.0)
    assert ratio_of_means([1.0, 1.0], [1.0, -1.0]) is None
    assert mean_over_batches([1.0]) is None
