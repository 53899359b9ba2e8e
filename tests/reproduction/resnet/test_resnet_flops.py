"""The count of a ResNet's operations, against published figures, hand calculation and the page."""

from pathlib import Path

import pytest
from resnet_flops import count

from sift_trainer.reproduction.resnet.model import EarlyExitResNetConfig
from tests.reproduction.resnet.small_resnet import config


def test_a_basic_layer_and_the_training_step_by_hand():
    """Each product has two more in the backward pass; the image needs no gradient."""
    cost = count(config(depths=[1, 1, 1, 1], layer_type="basic"), 16)
    stem = 2 * 3 * 9 * 4 * 16**2
    first = 2 * (9 * 4 * 8 + 9 * 8 * 8 + 4 * 8) * 16**2
    second = 2 * (9 * 8 * 16 + 9 * 16 * 16 + 8 * 16) * 8**2
    assert cost.early_exit == stem + first + second + 2 * 16 * 5
    assert cost.forward_backward == 3 * cost.forward - stem
    assert cost.scoring_overhead() == 2 * cost.early_exit / cost.forward_backward
    assert cost.scoring_overhead(0.25, exit_layer=-1) == 4 * cost.forward / cost.forward_backward


def test_resnet_50_has_its_published_cost_and_the_shares_of_the_page():
    """Published: 4.09 thousand million multiply-adds at 224 pixels, with 1000 classes."""
    page = (Path(__file__).parents[3] / "docs" / "resnet_model.md").read_text()
    for configuration, side in (
        (EarlyExitResNetConfig(num_labels=101), 224),
        (EarlyExitResNetConfig(num_labels=100, stem="cifar"), 32),
    ):
        cost = count(configuration, side)
        shares = (cost.scoring_overhead(), cost.scoring_overhead(exit_layer=-1))
        assert " | ".join(f"{share:.3f}" for share in shares) in page
        for operations in (cost.early_exit, cost.forward, cost.forward_backward):
            assert f" {operations / 1e9:.2f} |" in page
        if side == 224:
            plain = cost.forward - 2 * 101 * (512 + 2048) + 2 * 1000 * 2048
            assert plain / 2e9 == pytest.approx(4.09, abs=0.005)
