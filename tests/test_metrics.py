"""Running counts give what numpy counts over everything at once."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from sift_trainer import metrics
from sift_trainer.metrics import MaskedAccuracy, MaskedPerplexity, pretraining_metrics


def _made(seed: int, rows: int = 37, length: int = 9) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    predictions = generator.integers(0, 4, size=(rows, length))
    references = generator.integers(0, 4, size=(rows, length))
    references[generator.random((rows, length)) < 0.8] = -100
    return predictions, references


def _by_hand(predictions: np.ndarray, references: np.ndarray) -> float:
    pairs = zip(predictions.ravel().tolist(), references.ravel().tolist(), strict=True)
    judged = [p == r for p, r in pairs if r != -100]
    return sum(judged) / len(judged)


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy, lambda array: array.tolist()])
def test_batches_add_up_to_the_whole(convert: Any) -> None:
    predictions, references = _made(0)
    metric = MaskedAccuracy()
    for start in range(0, 37, 8):  # the last batch is smaller
        part = slice(start, start + 8)
        metric.add_batch(
            predictions=convert(predictions[part]), references=convert(references[part])
        )
    expected = _by_hand(predictions, references)
    assert metric.compute() == {"accuracy": expected}
    assert metric.compute(predictions=predictions, references=references)["accuracy"] == expected
    for prediction, reference in zip(predictions, references, strict=True):
        metric.add(prediction=prediction, reference=reference)
    assert metric.compute()["accuracy"] == expected


def test_compute_starts_anew_and_nothing_labelled_is_nan() -> None:
    metric = MaskedAccuracy()
    assert metric.compute(predictions=[1, 2], references=[1, -100]) == {"accuracy": 1.0}
    assert np.isnan(metric.compute()["accuracy"])


def test_memory_does_not_grow() -> None:
    metric, sizes = MaskedAccuracy(), []
    for seed in range(20):
        predictions, references = _made(seed)
        metric.add_batch(predictions=predictions, references=references)
        sizes.append({name: sys.getsizeof(value) for name, value in vars(metric).items()})
    assert sizes[0] == sizes[-1]
    assert metric.writer is None  # evaluate's own cache file was never opened


def test_wrong_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = MaskedAccuracy()
    with pytest.raises(ValueError, match=r"shape \(2,\).*\(3,\)"):
        metric.add_batch(predictions=[1, 2], references=[1, 2, 3])
    with pytest.raises(ValueError, match="num_process=2"):
        MaskedAccuracy(num_process=2)
    monkeypatch.setattr(metrics, "_MISSING", ImportError("No module named 'evaluate'"))
    with pytest.raises(ImportError, match=r"sift-trainer\[report\]"):
        MaskedAccuracy()


def test_perplexity_is_the_exponential_of_the_mean_over_positions() -> None:
    """Not of the mean over batches, which have different numbers of positions."""
    _, references = _made(3)
    losses = np.random.default_rng(4).random(references.shape).astype(np.float32)
    metric = MaskedPerplexity()
    for start in (0, 5, 30):
        stop = {0: 5, 5: 30, 30: 37}[start]
        metric.add_batch(predictions=losses[start:stop], references=references[start:stop])
    mean = losses[references != -100].astype(np.float64).mean()
    assert metric.compute() == pytest.approx({"loss": mean, "perplexity": np.exp(mean)})
    assert np.isnan(metric.compute()["loss"])
    assert metric.compute(predictions=[1000.0], references=[1])["perplexity"] > 1e300  # no overflow


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
