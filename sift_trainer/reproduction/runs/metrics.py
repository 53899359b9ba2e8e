"""Accuracy and perplexity over labelled positions, counted batch by batch in constant memory."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import EvalPrediction

from sift_trainer.scoring.positions import IGNORE_INDEX

_LARGEST_EXPONENT = 700.0  # beyond it math.exp overflows


class _Mean(ABC):
    """A mean over the positions whose reference is not -100."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._total = 0

    def add_batch(self, *, predictions: Any, references: Any) -> None:
        """Adds predictions and references of the same shape: lists, arrays or tensors.

        Raises:
            ValueError: if the shapes differ.
        """
        given, expected = torch.as_tensor(predictions), torch.as_tensor(references)
        if given.shape != expected.shape:
            raise ValueError(
                f"predictions have shape {tuple(given.shape)}; they must have that of the "
                f"references, {tuple(expected.shape)}"
            )
        labelled = expected != IGNORE_INDEX
        self._sum += float(self._values(given[labelled], expected[labelled]).double().sum())
        self._total += int(labelled.sum())

    def compute(self) -> dict[str, float]:
        """The metric of everything added since the last call, NaN if nothing had a label."""
        mean = self._sum / self._total if self._total else math.nan
        self._sum, self._total = 0.0, 0
        return self._result(mean)

    @abstractmethod
    def _values(self, predictions: Tensor, references: Tensor) -> Tensor:
        """What the mean is taken of: one number for each labelled position."""

    @abstractmethod
    def _result(self, mean: float) -> dict[str, float]: ...


class MaskedAccuracy(_Mean):
    """``{"accuracy"}``: the share of labelled positions whose predicted id is right."""

    def _values(self, predictions: Tensor, references: Tensor) -> Tensor:
        return predictions == references

    def _result(self, mean: float) -> dict[str, float]:
        return {"accuracy": mean}


class MaskedPerplexity(_Mean):
    """``{"loss", "perplexity"}`` of the labelled positions.

    Predictions are losses in nats. The mean is over positions, not over batches. Perplexity is its
    exponential.
    """

    def _values(self, predictions: Tensor, references: Tensor) -> Tensor:
        return predictions

    def _result(self, mean: float) -> dict[str, float]:
        return {"loss": mean, "perplexity": math.exp(min(mean, _LARGEST_EXPONENT))}


def classification_metrics() -> Callable[..., dict[str, float]]:
    """``compute_metrics`` for a Trainer whose predictions are class ids, for example by
    ``preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1)``.

    The returned function gives `accuracy` over all rows. With ``batch_eval_metrics=True`` it gives
    it in the call for the last batch.
    """
    accuracy = MaskedAccuracy()

    def compute(prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        accuracy.add_batch(predictions=prediction.predictions, references=prediction.label_ids)
        return accuracy.compute() if compute_result else {}

    return compute


def pretraining_metrics() -> Callable[..., dict[str, float]]:
    """``compute_metrics`` for a `PretrainingTrainer` with ``batch_eval_metrics=True``.

    The Trainer calls the returned function with one batch at a time, whose predictions are
    ``(predicted_ids, losses, next_sentence)`` of `evaluation.Evaluated` and whose labels are
    ``(labels, next_sentence_label)``. For the last batch it returns `mlm_accuracy`, `mlm_loss` and
    `mlm_perplexity` over masked positions and `nsp_accuracy` over rows, before that an empty dict.
    """
    accuracy, perplexity, pairs = MaskedAccuracy(), MaskedPerplexity(), MaskedAccuracy()

    def compute(prediction: EvalPrediction, compute_result: bool) -> dict[str, float]:
        predicted_ids, losses, next_sentence = prediction.predictions
        labels, next_sentence_label = prediction.label_ids
        accuracy.add_batch(predictions=predicted_ids, references=labels)
        perplexity.add_batch(predictions=losses, references=labels)
        pairs.add_batch(predictions=next_sentence, references=next_sentence_label)
        if not compute_result:
            return {}
        masked = {**accuracy.compute(), **perplexity.compute()}
        return {
            **{f"mlm_{name}": value for name, value in masked.items()},
            "nsp_accuracy": pairs.compute()["accuracy"],
        }

    return compute
