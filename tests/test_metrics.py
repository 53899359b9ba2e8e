"""Running counts give what numpy counts over everything at once."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForPreTraining,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from sift_trainer import metrics
from sift_trainer.metrics import MaskedAccuracy, predicted_ids, pretraining_metrics


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
    with pytest.raises(ValueError, match="logits=Tensor"):
        predicted_ids(torch.zeros(2, 3))  # type: ignore[arg-type]
    monkeypatch.setattr(metrics, "_MISSING", ImportError("No module named 'evaluate'"))
    with pytest.raises(ImportError, match=r"sift-trainer\[report\]"):
        MaskedAccuracy()


def test_pretraining_metrics_count_both_tasks_over_all_batches() -> None:
    compute = pretraining_metrics()
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):  # the second evaluation starts at zero
        ids, labels, following, order = [], [], [], []
        for last in (False, False, True):
            mlm = torch.randn(6, 5, 11, generator=generator)
            nsp = torch.randn(6, 2, generator=generator)
            reference = torch.randint(0, 11, (6, 5), generator=generator)
            reference[:, 1:4] = -100
            label = torch.randint(0, 2, (6,), generator=generator)
            predictions = predicted_ids((mlm, nsp), (reference, label))
            result = compute(
                EvalPrediction(predictions=predictions, label_ids=(reference, label)),
                compute_result=last,
            )
            ids.append(mlm.numpy().argmax(-1))
            labels.append(reference.numpy())
            following.append(nsp.numpy().argmax(-1))
            order.append(label.numpy())
            assert last or result == {}
        assert result == {
            "mlm_accuracy": _by_hand(np.stack(ids), np.stack(labels)),
            "nsp_accuracy": _by_hand(np.stack(following), np.stack(order)),
        }


def test_trainer_reports_what_the_model_gives_row_by_row(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = BertForPreTraining(BertConfig(vocab_size=12, intermediate_size=8, **shape)).eval()
    ids = torch.randint(0, 12, (10, 6))
    labels = torch.where(torch.rand(10, 6) < 0.5, ids, -100)
    following = torch.randint(0, 2, (10,))
    rows = [
        {"input_ids": ids[i], "labels": labels[i], "next_sentence_label": following[i]}
        for i in range(10)
    ]
    arguments = TrainingArguments(
        str(tmp_path),
        per_device_eval_batch_size=4,
        batch_eval_metrics=True,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(
        model,
        arguments,
        eval_dataset=rows,  # type: ignore[arg-type]
        data_collator=default_data_collator,
        compute_metrics=pretraining_metrics(),
        preprocess_logits_for_metrics=predicted_ids,
    )
    with torch.no_grad():
        output = model(input_ids=ids)
    expected = {
        "eval_mlm_accuracy": _by_hand(output.prediction_logits.argmax(-1).numpy(), labels.numpy()),
        "eval_nsp_accuracy": _by_hand(
            output.seq_relationship_logits.argmax(-1).numpy(), following.numpy()
        ),
    }
    for _ in range(2):
        reported = trainer.evaluate()
        assert {name: reported[name] for name in expected} == pytest.approx(expected)
