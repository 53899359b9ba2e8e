"""The two-classifier ResNet: the library's, plus L_i R_i, trained by one cross-entropy."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
)
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention

from tests.reproduction.resnet.small_resnet import CLASSES, SIZES, images, resnet

LABELS = torch.tensor([0, 4, 2, 2])


def hidden_states(model, pixel_values):
    """Outputs of stem and block groups, caught by hooks."""
    caught = []
    parts = [model.resnet.embedder, *model.resnet.encoder.stages]
    handles = [p.register_forward_hook(lambda m, i, output: caught.append(output)) for p in parts]
    model(pixel_values)
    for handle in handles:
        handle.remove()
    return caught


def library_twin(model):
    """The library's ResNet with the same weights."""
    kind = {"layer_type": model.config.layer_type, "num_labels": CLASSES}
    twin = ResNetForImageClassification(ResNetConfig(**SIZES, **kind))
    missing, unexpected = twin.load_state_dict(model.state_dict(), strict=False)
    assert not missing
    assert set(unexpected) == {f"intermediate_classifier.1.{n}" for n in ("weight", "bias")}
    return twin.train(model.training)


@pytest.mark.parametrize("layer_type", ["bottleneck", "basic"])
@pytest.mark.parametrize("training", [True, False])
def test_with_l_i_zero_it_is_the_librarys_resnet(layer_type, training):
    model = resnet("imagenet", layer_type=layer_type).train(training)
    nn.init.zeros_(model.intermediate_classifier[1].weight)
    nn.init.zeros_(model.intermediate_classifier[1].bias)
    twin = library_twin(model)
    found = model(images(side=40), labels=LABELS)
    expected = twin(images(side=40), labels=LABELS)
    assert isinstance(found, ImageClassifierOutputWithNoAttention)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.loss, expected.loss)
    found.loss.backward()
    expected.loss.backward()
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad)
    for name, value in twin.named_buffers():
        assert torch.equal(model.get_buffer(name), value), name


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_logits_are_the_sum_of_both_classifiers(stem):
    model, pixel_values = resnet(stem).eval(), images(side=40)
    *_, second, _, last = hidden_states(model, pixel_values)
    assert second.shape[1] == SIZES["hidden_sizes"][1]
    final, intermediate = model.classifier[1], model.intermediate_classifier[1]
    early = second.mean((2, 3)) @ intermediate.weight.T + intermediate.bias
    late = last.mean((2, 3)) @ final.weight.T + final.bias
    assert min(early.std(), late.std()) > 0.05  # neither is lost in the other's rounding
    found = model(pixel_values)
    torch.testing.assert_close(found.logits, early + late, rtol=1e-5, atol=1e-5)
    assert found.loss is None
    assert found.hidden_states is None
    model.exits_early = True
    found = model(pixel_values, output_hidden_states=True)
    torch.testing.assert_close(found.logits, early, rtol=1e-5, atol=1e-5)
    assert len(found.hidden_states) == 3
    assert torch.equal(found.hidden_states[2], second)


def test_cifar_stem():
    model, pixel_values = resnet().eval(), images(side=16)
    stem, *groups = hidden_states(model, pixel_values)
    first = model.resnet.embedder.embedder
    convolved = functional.conv2d(pixel_values, first.convolution.weight, stride=1, padding=1)
    expected = functional.relu(first.normalization(convolved))
    torch.testing.assert_close(stem, expected)
    assert set(model.state_dict()) == set(resnet("imagenet").state_dict())
    assert [output.shape[-1] for output in groups] == [16, 8, 4, 2]
    assert [s.shape[-1] for s in hidden_states(resnet("imagenet"), images(side=64))] == [
        16, 16, 8, 4, 2
    ]  # fmt: skip


# ---- what cannot work is an error ----
