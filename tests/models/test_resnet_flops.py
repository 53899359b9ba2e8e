"""The count of a ResNet's operations, against torch's counter and figures worked out by hand."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sift_trainer import early_exit
from sift_trainer.models import EarlyExitResNetConfig, EarlyExitResNetForImageClassification
from sift_trainer.models.resnet_flops import count
from tests.models.small_resnet import config

CASES = {
    "ResNet-50, 224": (EarlyExitResNetConfig(num_labels=101), 224),
    "ResNet-50, CIFAR": (EarlyExitResNetConfig(num_labels=100, stem="cifar"), 32),
    "basic, odd side": (config("imagenet", layer_type="basic"), 45),
    "strides elsewhere": (
        config(downsample_in_first_stage=True, downsample_in_bottleneck=True, num_channels=1),
        37,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_parts_are_those_that_torch_counts(case):
    configuration, side = CASES[case]
    expected = count(configuration, side)
    with torch.device("meta"):
        model = EarlyExitResNetForImageClassification(configuration)
        pixel_values = torch.empty(2, configuration.num_channels, side, side)
        labels = torch.empty(2, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(pixel_values, labels=labels).loss.backward()
    assert counter.get_total_flops() == 2 * expected.forward_backward
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(pixel_values)
    assert counter.get_total_flops() == 2 * expected.forward
    with torch.no_grad(), early_exit(model, 1), FlopCounterMode(display=False) as counter:
        model(pixel_values)
    assert counter.get_total_flops() == 2 * expected.early_exit


def test_resnet_50_by_hand():
    """Its published cost is 4.09 thousand million multiply-adds at 224 pixels and 1000 classes,
    with the stem's 7 x 7 x 3 x 64 at 112 x 112 pixels among them."""
    cost = count(EarlyExitResNetConfig(num_labels=1000), 224)
    assert cost.stem == 2 * 147 * 64 * 112**2
    published = cost.forward - cost.intermediate_classifier
    assert published / 2e9 == pytest.approx(4.09, abs=0.005)


def test_shares_that_the_page_states():
    imagenet = count(EarlyExitResNetConfig(num_labels=101), 224)
    cifar = count(EarlyExitResNetConfig(num_labels=100, stem="cifar"), 32)
    page = (Path(__file__).parents[2] / "docs" / "resnet_model.md").read_text()
    for cost in (imagenet, cifar):
        shares = (cost.scoring_overhead(), cost.scoring_overhead(exit_layer=-1))
        assert " | ".join(f"{share:.3f}" for share in shares) in page
        for operations in (cost.early_exit, cost.forward, cost.forward_backward):
            assert f" {operations / 1e9:.2f} |" in page
    assert imagenet.scoring_overhead() == 2 * imagenet.early_exit / imagenet.forward_backward
    assert imagenet.scoring_overhead(0.25) == 2 * imagenet.scoring_overhead()
    with pytest.raises(ValueError, match="exit_layer=3 must be 1, 2"):
        cifar.scoring_overhead(exit_layer=3)
    with pytest.raises(ValueError, match="keep_ratio=0 must be in"):
        cifar.scoring_overhead(0)
