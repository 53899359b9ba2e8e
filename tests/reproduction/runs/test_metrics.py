"""Running counts equal what numpy counts over all batches at once."""

import numpy as np
import pytest
from transformers import EvalPrediction

from sift_trainer.reproduction.runs.metrics import classification_metrics, pretraining_metrics


def _made(seed: int, rows: int = 37, length: int = 9) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    predictions = generator.integers(0, 4, size=(rows, length))
    references = generator.integers(0, 4, size=(rows, length))
    references[generator.random((rows, length)) < 0.8] = -100
    return predictions, references


def _by_hand(predictions: np.ndarray, references: np.ndarray) -> float:
    labelled = references != -100
    return (predictions == references)[labelled].mean()


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


def test_classification_counts_rows_of_uneven_batches() -> None:
    compute = classification_metrics()
    for ids, labels, last in (([1, 2, 3], [1, 0, 3], False), ([4], [4], True)):
        found = compute(EvalPrediction(np.array(ids), np.array(labels)), compute_result=last)
    assert found == {"accuracy": 0.75}
