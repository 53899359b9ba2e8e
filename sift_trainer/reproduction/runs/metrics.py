"""Accuracy and perplexity over labelled positions, counted batch by batch in constant memory."""

import math
from collections.abc import Callable
from typing import Any

import torch
from transformers import EvalPrediction

from sift_trainer.scoring.positions import IGNORE_INDEX


class LabelledMean:
    """Mean of numbers at the positions whose label is not -100."""

    def __init__(self) -> None:
        self._sum, self._total = 0.0, 0

    def add(self, values: Any, labels: Any) -> None:
        """Add values and labels of the same shape: arrays or tensors."""
        labelled = torch.as_tensor(labels) != IGNORE_INDEX
        self._sum += float(torch.as_tensor(values)[labelled].double().sum())
        self._total += int(labelled.sum())

    def compute(self) -> float:
        """The mean of everything added since the last call, NaN if nothing had a label."""
        mean = self._sum / self._total if self._total else math.nan
        self._sum, self._total = 0.0, 0
        return mean


def classification_metrics() -> Callable[..., dict[str, float]]:
    """``compute_metrics`` for a Trainer whose predictions are class ids: `accuracy` over all rows.

    With ``batch_eval_metrics=True`` the call for the last batch returns it.
    """
    accuracy = LabelledMean()

    def compute(prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        accuracy.add(prediction.predictions == prediction.label_ids, prediction.label_ids)
        return {"accuracy": accuracy.compute()} if compute_result else {}

    return compute


def pretraining_metrics() -> Callable[..., dict[str, float]]:
    """``compute_metrics`` for a `PretrainingTrainer` with ``batch_eval_metrics=True``.

    The call for the last batch returns `mlm_accuracy`,
    `mlm_loss` and `mlm_perplexity` over masked positions and `nsp_accuracy` over rows.
    """
    accuracy, loss, pairs = LabelledMean(), LabelledMean(), LabelledMean()

    def compute(prediction: EvalPrediction, compute_result: bool) -> dict[str, float]:
        predicted_ids, losses, next_sentence = prediction.predictions
        labels, next_sentence_label = prediction.label_ids
        accuracy.add(predicted_ids == labels, labels)
        loss.add(losses, labels)
        pairs.add(next_sentence == next_sentence_label, next_sentence_label)
        if not compute_result:
            return {}
        mean = loss.compute()
        return {
            "mlm_accuracy": accuracy.compute(),
            "mlm_loss": mean,
            "mlm_perplexity": math.exp(min(mean, 700.0)),  # math.exp overflows at 710
            "nsp_accuracy": pairs.compute(),
        }

    return compute
