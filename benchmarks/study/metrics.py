"""What `time_to_accuracy.py` evaluates, counted batch by batch."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from sift_trainer.reproduction.runs.metrics import LabelledMean


def class_metrics() -> Callable[..., dict[str, float]]:
    """``accuracy``, and ``recall_0``, ``recall_1``...: the share of each class that is found."""
    right: Counter[int] = Counter()
    rows: Counter[int] = Counter()

    def compute(prediction: Any, compute_result: bool = True) -> dict[str, float]:
        for found, label in zip(prediction.predictions, prediction.label_ids, strict=True):
            rows[int(label)] += 1
            right[int(label)] += int(found == label)
        if not compute_result:
            return {}
        result = {"accuracy": right.total() / rows.total()}
        result |= {f"recall_{label}": right[label] / rows[label] for label in sorted(rows)}
        right.clear()
        rows.clear()
        return result

    return compute


def next_token_metrics() -> Callable[..., dict[str, float]]:
    """Share of the tokens, behind the first, that the one before predicts."""
    accuracy = LabelledMean()

    def compute(prediction: Any, compute_result: bool = True) -> dict[str, float]:
        found, labels = prediction.predictions, prediction.label_ids
        accuracy.add(found[:, :-1] == labels[:, 1:], labels[:, 1:])
        return {"accuracy": accuracy.compute()} if compute_result else {}

    return compute
