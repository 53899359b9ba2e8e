"""Accuracy over the positions that have a label, counted batch by batch in constant memory."""

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


class MaskedAccuracy(Metric):
    """`evaluate` metric: share of the positions with a reference other than -100 that are right.

    Counts are kept instead of samples, so memory does not grow with `add_batch`, and predictions
    may be lists, arrays or tensors of any shape. Unlike `evaluate.load` it reads no hub.

    Raises:
        ImportError: `evaluate` is not installed.
        ValueError: built for several processes; gather the batches instead, as the Trainer does.
    """

    def __init__(self, **kwargs: Any) -> None:
        if _MISSING is not None:
            raise ImportError(
                'MaskedAccuracy needs evaluate: pip install "sift-trainer[report]"'
            ) from _MISSING
        if kwargs.get("num_process", 1) != 1:
            raise ValueError(
                f"num_process={kwargs['num_process']}: must be 1; gather predictions and references"
                " of all processes first, as accelerator.gather_for_metrics does"
            )
        super().__init__(**kwargs)
        self._correct = 0
        self._total = 0

    def _info(self) -> Any:
        return MetricInfo(
            description="Accuracy over the positions whose reference is not -100.",
            citation="",
            inputs_description="predictions and references: integers of the same shape.",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Adds one sample."""
        self.add_batch(predictions=prediction, references=reference, **kwargs)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Adds integers of any shape; positions with reference -100 do not count.

        Raises:
            ValueError: the shapes differ, or an argument is unknown.
        """
        if kwargs:
            raise ValueError(f"{sorted(kwargs)}: only predictions and references are known")
        correct, total = _count(predictions, references)
        self._correct += correct
        self._total += total

    def compute(
        self, *, predictions: Any = None, references: Any = None, **kwargs: Any
    ) -> dict[str, float]:
        """``{"accuracy": share}`` of all that was added since the last call, then starts anew.

        The share is NaN if nothing had a label.
        """
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references, **kwargs)
        result = self._compute()
        self._correct = self._total = 0
        return result

    def _compute(self, **_: Any) -> dict[str, float]:
        return {"accuracy": self._correct / self._total if self._total else float("nan")}


def predicted_ids(logits: tuple[Tensor, Tensor], _labels: object = None) -> tuple[Tensor, Tensor]:
    """For `Trainer(preprocess_logits_for_metrics=...)`: keeps predictions, lets go of logits.

    Args:
        logits: of `BertForPreTraining`: word pieces (batch, length, vocabulary) and next sentence
            (batch, 2).

    Returns:
        int64 (batch, length) and (batch,).

    Raises:
        ValueError: `logits` is not such a pair.
    """
    if not isinstance(logits, tuple) or len(logits) != 2:
        raise ValueError(
            f"logits={type(logits).__name__}: expected (prediction_logits, seq_relationship_logits)"
            " of BertForPreTraining"
        )
    prediction_logits, seq_relationship_logits = logits
    return prediction_logits.argmax(dim=-1), seq_relationship_logits.argmax(dim=-1)


def pretraining_metrics() -> Callable[..., dict[str, float]]:
    """For `Trainer(compute_metrics=...)` with ``batch_eval_metrics=True`` and `predicted_ids`.

    The Trainer calls the function returned with the predictions of one batch at a time: nothing is
    kept but four counts. With ``compute_result=True``, on the last batch, it returns `mlm_accuracy`
    (masked positions) and `nsp_accuracy` (rows) and starts anew; before that an empty dict. The
    labels come as ``(labels, next_sentence_label)``, the order of the model's signature.

    Raises:
        ImportError: `evaluate` is not installed.
    """
    metrics = {"mlm_accuracy": MaskedAccuracy(), "nsp_accuracy": MaskedAccuracy()}

    def compute(prediction: "EvalPrediction", compute_result: bool) -> dict[str, float]:
        for metric, ids, labels in zip(
            metrics.values(), prediction.predictions, prediction.label_ids, strict=True
        ):
            metric.add_batch(predictions=ids, references=labels)
        if not compute_result:
            return {}
        return {name: metric.compute()["accuracy"] for name, metric in metrics.items()}

    return compute


def _count(predictions: Any, references: Any) -> tuple[int, int]:
    """(right, labelled) positions."""
    predicted, expected = torch.as_tensor(predictions), torch.as_tensor(references)
    if predicted.shape != expected.shape:
        raise ValueError(
            f"predictions of shape {tuple(predicted.shape)}: must have the shape of the references,"
            f" {tuple(expected.shape)}"
        )
    labelled = expected != IGNORED
    return int(((predicted == expected) & labelled).sum()), int(labelled.sum())
