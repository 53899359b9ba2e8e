"""Each regime's own metrics and models, on numbers worked out by hand."""

from types import SimpleNamespace

import pytest
import torch
from study.metrics import class_metrics, next_token_metrics
from study.models import resnet

SHAPE = {"depths": [1, 1, 1], "hidden_sizes": [8, 8, 8], "embedding_size": 8}


def predicted(predictions, labels):
    return SimpleNamespace(predictions=torch.tensor(predictions), label_ids=torch.tensor(labels))


def test_recall_of_each_class_over_batches():
    compute = class_metrics()
    assert compute(predicted([0, 1, 1], [0, 0, 1]), compute_result=False) == {}
    whole = compute(predicted([2], [2]), compute_result=True)
    assert whole == {"accuracy": 0.75, "recall_0": 0.5, "recall_1": 1.0, "recall_2": 1.0}
    assert compute(predicted([0], [0]))["accuracy"] == 1  # begins anew


def test_a_token_is_predicted_by_the_one_before():
    compute = next_token_metrics()
    assert compute(predicted([[5, 6, 0]], [[4, 5, 7]])) == {"accuracy": 0.5}


def test_the_early_classifier_has_a_loss_of_its_own_in_training_alone():
    """At weight w the loss is cross-entropy of the sum + w * that of the early logits."""
    torch.manual_seed(0)
    model = resnet({**SHAPE, "supervised": 0.5}, 3)
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    cross_entropy = torch.nn.functional.cross_entropy
    whole = model.train()(pixel_values=images, labels=labels)
    early, model.exits_early = model.exits_early, True
    first = model(pixel_values=images).logits
    model.exits_early = early
    expected = cross_entropy(whole.logits, labels) + 0.5 * cross_entropy(first, labels)
    assert whole.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    plain = model.eval()(pixel_values=images, labels=labels)
    assert plain.loss.item() == pytest.approx(cross_entropy(plain.logits, labels).item())
