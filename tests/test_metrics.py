"""Running counts equal what numpy counts over all batches at once."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from sift_trainer.reproduction.runs.metrics import (
    MaskedAccuracy,
    MaskedPerplexity,
    pretraining_metrics,
)


def _made(seed: int, rows: int = 37, length: int = 9) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    predictions = generator.integers(0, 4, size=(rows, length))
    references = generator.integers(0, 4, size=(rows, length))
    references[generator.random((rows, length)) < 0.8] = -100
    return predictions, references


def _by_hand(predictions: np.ndarray, references: np.ndarray) -> float:
    labelled = references != -100
    return (predictions == references)[labelled].mean()


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy, lambda array: array.tolist()])
def test_batches_add_up_to_the_whole(convert: Any) -> None:
    predictions, references = _made(0)
    metric = MaskedAccuracy()
    for _ in range(2):  # `compute` starts anew
        for start in range(0, 37, 8):  # the last batch is smaller
            part = slice(start, start + 8)
            metric.add_batch(
                predictions=convert(predictions[part]), references=convert(references[part])
            )
        assert metric.compute() == {"accuracy": _by_hand(predictions, references)}
    assert np.isnan(metric.compute()["accuracy"])


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1,\).*\(3,\)"):
        MaskedAccuracy().add_batch(predictions=[1], references=[1, 2, 3])


def test_perplexity_is_the_exponential_of_the_mean_over_positions() -> None:
    """Not of the mean over batches, which have different numbers of positions."""
    _, references = _made(3)
    losses = np.random.default_rng(4).random(references.shape).astype(np.float32)
    metric = MaskedPerplexity()
    for start, stop in ((0, 5), (5, 30), (30, 37)):
        metric.add_batch(predictions=losses[start:stop], references=references[start:stop])
    mean = losses[references != -100].astype(np.float64).mean()
    assert metric.compute() == pytest.approx({"loss": mean, "perplexity": np.exp(mean)})
    metric.add_batch(predictions=[1000.0], references=[1])
    assert metric.compute()["perplexity"] > 1e300  # no overflow


def test_pretraining_metrics_count_both_tasks_over_all_batches() -> None:
    compute = pretraining_metrics()
    generator = np.random.default_rng(0)
    for _ in range(2):  # the second evaluation starts at zero
        parts = []
        for last in (False, False, True):
            ids, references = _made(int(generator.integers(1000)), rows=6)
            losses = generator.random((6, 9))
            following, order = generator.integers(0, 2, (2, 6))
            parts.append((ids, references, losses, following, order))
            result = compute(
                EvalPrediction(predictions=(ids, losses, following), label_ids=(references, order)),
                compute_result=last,
            )
            assert last or result == {}
        ids, references, losses, following, order = map(np.concatenate, zip(*parts, strict=True))
        mean = losses[references != -100].mean()
        assert result == pytest.approx(
            {
                "mlm_accuracy": _by_hand(ids, references),
                "mlm_loss": mean,
                "mlm_perplexity": np.exp(mean),
                "nsp_accuracy": (following == order).mean(),
            }
        )
