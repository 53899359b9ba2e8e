"""Reference losses: those of the model alone, as a column that training subtracts."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset, load_from_disk
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sift_trainer.__main__ import main
from sift_trainer.probe.reference import reference_losses
from tests.training import RecordingTrainer, Rows, Stream, arguments, bert

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def test_losses_are_the_models_own_of_one_sample_alone(tmp_path: Path) -> None:
    model, rows = bert(), Rows(11)
    trainer = RecordingTrainer(model, arguments(tmp_path), train_dataset=Rows(48))
    found = reference_losses(trainer, rows)
    model.eval()
    expected = [
        model(**{name: value[None] for name, value in rows[row].items()}).loss.item()
        for row in range(11)
    ]
    assert found == pytest.approx(expected, rel=1e-5)


def test_samples_without_a_loss_and_streams_are_refused(tmp_path: Path) -> None:
    trainer = RecordingTrainer(bert(), arguments(tmp_path), train_dataset=Rows(48))
    rows = Rows(11)
    rows.labels[7] = -100
    with pytest.raises(ValueError, match="sample 7 has no finite loss"):
        reference_losses(trainer, rows)
    with pytest.raises(ValueError, match="Stream in 1 processes"):
        reference_losses(trainer, Stream(11))


def test_the_command_adds_the_column(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(inputs / "models" / "sentence_classification")
    texts, labels = [f"Ada has {row} red lamps" for row in range(9)], [row % 2 for row in range(9)]
    Dataset.from_dict({"text": texts, "label": labels}).save_to_disk(tmp_path / "data")
    words = ["reference-loss", "--model", model, "--dataset", str(tmp_path / "data")]
    words += ["--task", "text-classification", "--use_cpu", "--output", str(tmp_path / "new")]
    words += ["--per_device_train_batch_size", "4"]
    assert main(words) == 0, capsys.readouterr().err
    found = load_from_disk(str(tmp_path / "new"))
    assert found["text"][:] == texts
    whole = AutoModelForSequenceClassification.from_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    for row in (0, 8):
        logits = whole(**tokenizer(texts[row], return_tensors="pt")).logits
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([labels[row]]))
        assert found["reference_loss"][row] == pytest.approx(loss.item(), rel=1e-4)
    assert main(words) == 2
    assert "exists; name a new folder" in capsys.readouterr().err
