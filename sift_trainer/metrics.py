"""Accuracy and perplexity over labelled positions, counted batch by batch in constant memory."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import EvalPrediction

try:
    import datasets
    from evaluate import Metric, MetricInfo

    _MISSING: ImportError | None = None
except ImportError as error:  # named when a metric is built, so that importing this needs no extra
    _MISSING = error
    Metric = object

IGNORED = -100
_LARGEST_EXPONENT = 700.0  # beyond it math.exp overflows


class _Mean(Metric):
    """Mean over the positions with a reference other than -100, counted batch by batch."""

    description: str
    prediction_type: str

    def __init__(self, **kwargs: Any) -> None:
        name = type(self).__name__
        if _MISSING is not None:
            raise ImportError(
                f'{name} needs evaluate: pip install "sift-trainer[report]"'
            ) from _MISSING
        if kwargs.get("num_process", 1) != 1:
            raise ValueError(
                f"num_process={kwargs['num_process']}: must be 1; gather predictions and references"
                " of all processes first, as accelerator.gather_for_metrics does"
            )
        super().__init__(**kwargs)
        self._sum: float = 0
        self._total = 0

    def _info(self) -> Any:
        return MetricInfo(
            description=self.description,
            citation="",
            inputs_description="predictions and references: of the same shape.",
            features=datasets.Features(
                {
                    "predictions": datasets.Value(self.prediction_type),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Adds one sample."""
        self.add_batch(predictions=prediction, references=reference, **kwargs)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Adds samples of any shape; positions with reference -100 do not count.

        Raises:
            ValueError: the shapes differ, or an argument is unknown.
        """
        if kwargs:
            raise ValueError(f"{sorted(kwargs)}: only predictions and references are known")
        given, expected = torch.as_tensor(predictions), torch.as_tensor(references)
        if given.shape != expected.shape:
            raise ValueError(
                f"predictions of shape {tuple(given.shape)}: must have the shape of the references,"
                f" {tuple(expected.shape)}"
            )
        counted = expected != IGNORED
        self._sum += self._summed(given[counted], expected[counted])
        self._total += int(counted.sum())

    def compute(
        self, *, predictions: Any = None, references: Any = None, **kwargs: Any
    ) -> dict[str, float]:
        """The metric of all that was added since the last call; then starts anew.

        NaN if nothing had a label.
        """
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references, **kwargs)
        result = self._compute()
        self._sum = self._total = 0
        return result

    def _compute(self, **_: Any) -> dict[str, float]:
        return self._result(self._sum / self._total if self._total else float("nan"))

    def _summed(self, predictions: Tensor, references: Tensor) -> float:
        raise NotImplementedError

    def _result(self, mean: float) -> dict[str, float]:
        raise NotImplementedError


class MaskedAccuracy(_Mean):
    """`evaluate` metric ``{"accuracy"}``: share of the labelled positions predicted right.

    Counts are kept instead of samples, so memory does not grow with `add_batch`, and predictions
    may be lists, arrays or tensors of any shape. Unlike `evaluate.load` it reads no hub.

    Raises:
        ImportError: `evaluate` is not installed.
        ValueError: built for several processes; gather the batches instead, as the Trainer does.
    """

    description = "Accuracy over the positions whose reference is not -100."
    prediction_type = "int64"

    def _summed(self, predictions: Tensor, references: Tensor) -> int:
        return int((predictions == references).sum())

    def _result(self, mean: float) -> dict[str, float]:
        return {"accuracy": mean}


class MaskedPerplexity(_Mean):
    """`evaluate` metric ``{"loss", "perplexity"}`` of the labelled positions, in constant memory.

    Predictions are losses in nats. The mean is over positions, not over batches, and perplexity is
    its exponential. Raises as `MaskedAccuracy` does.
    """

    description = "Mean loss over the positions whose reference is not -100, and its exponential."
    prediction_type = "float32"

    def _summed(self, predictions: Tensor, references: Tensor) -> float:
        return float(predictions.double().sum())

    def _result(self, mean: float) -> dict[str, float]:
        return {"loss": mean, "perplexity": math.exp(min(mean, _LARGEST_EXPONENT))}


def classification_metrics() -> Callable[..., dict[str, float]]:
    """For `Trainer(compute_metrics=...)` where the predictions are class ids, as
    ``preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1)`` makes them.

    The function returned gives `accuracy`, over all rows or, with ``batch_eval_metrics=True``, in
    the call for the last batch.

    Raises:
        ImportError: `evaluate` is not installed.
    """
    accuracy = MaskedAccuracy()

    def compute(prediction: "EvalPrediction", compute_result: bool = True) -> dict[str, float]:
        accuracy.add_batch(predictions=prediction.predictions, references=prediction.label_ids)
        return accuracy.compute() if compute_result else {}

    return compute


def pretraining_metrics() -> Callable[..., dict[str, float]]:
    """For `Trainer(compute_metrics=...)` with ``batch_eval_metrics=True``.

    The Trainer calls the function returned with one batch at a time, whose predictions are
    ``(predicted_ids, losses, next_sentence)`` of `evaluation.Evaluated` and whose labels are
    ``(labels, next_sentence_label)``: nothing is kept but six numbers. With
    ``compute_result=True``, on the last batch, it returns `mlm_accuracy`, `mlm_loss` and
    `mlm_perplexity` (masked positions) and `nsp_accuracy` (rows) and starts anew; before that an
    empty dict.

    Raises:
        ImportError: `evaluate` is not installed.
    """
    accuracy, perplexity, pairs = MaskedAccuracy(), MaskedPerplexity(), MaskedAccuracy()

    def compute(prediction: "EvalPrediction", compute_result: bool) -> dict[str, float]:
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
