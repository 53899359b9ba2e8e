"""Reference losses: those of the model alone, as a column that training subtracts."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset, load_from_disk
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

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


def test_a_causal_language_model_has_blocks_for_samples(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The new dataset has all texts, joined and cut into blocks, each with its mean loss."""
    model = str(inputs / "models" / "causal_lm")
    texts = [f"Ada has {row} red lamps " * 3 for row in range(9)]
    Dataset.from_dict({"text": texts}).save_to_disk(tmp_path / "data")
    words = ["reference-loss", "--model", model, "--dataset", str(tmp_path / "data"), "--use_cpu"]
    words += ["--max_length", "8", "--output", str(tmp_path / "new")]
    assert main(words) == 0, capsys.readouterr().err
    found = load_from_disk(str(tmp_path / "new"))
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokens = [token for text in texts for token in tokenizer(text).input_ids]
    assert found["input_ids"][:] == [tokens[at : at + 8] for at in range(0, len(tokens) - 7, 8)]
    assert found["labels"][:] == found["input_ids"][:]
    whole = AutoModelForCausalLM.from_pretrained(model)
    for row in (0, len(found) - 1):
        ids = torch.tensor([found["input_ids"][row]])
        expected = whole(input_ids=ids, labels=ids).loss.item()
        assert found["reference_loss"][row] == pytest.approx(expected, rel=1e-4)


def test_masks_that_are_drawn_have_no_one_loss(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Dataset.from_dict({"text": ["Ada has red lamps " * 20] * 9}).save_to_disk(tmp_path / "data")
    words = ["reference-loss", "--model", str(inputs / "models" / "masked_lm"), "--use_cpu"]
    words += ["--dataset", str(tmp_path / "data"), "--output", str(tmp_path / "new")]
    assert main(words) == 2
    assert "draws other masks in each step" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
