"""``sift-trainer probe --model --dataset`` on the four tasks, and what it says of mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from sift_trainer import SiftTrainer
from sift_trainer.commands import main
from sift_trainer.probe import probe
from tests.probe.named_inputs import command
from tests.training import Rows, bert

ROOT = Path(__file__).parents[2]


def found_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "probe.json").read_text())
    return found


def assert_all_exits_have_figures(found: dict[str, Any]) -> None:
    assert [each["choice"]["exit_layer"] for each in found["figures"]] == [1, 2, 3]
    for each in found["figures"]:
        assert each["scoring_share"]["value"] > 0
        assert 0 <= each["overlap"]["value"] <= 1
        assert each["descent"]["kept"] is not None
        assert each["gradient_norms"]["kept"] > 0
    assert found["figures"][-1]["overlap"]["value"] == 1


def test_as_a_user_runs_it(inputs: Path, tmp_path: Path) -> None:
    """A process of its own; task and column are found, and nothing but the report is left."""
    done = subprocess.run(
        [sys.executable, "-m", "sift_trainer", *command(inputs, "causal_lm", "train.jsonl")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [file.name for file in tmp_path.iterdir()] == ["probe"]
    found = found_in(tmp_path / "probe")
    assert_all_exits_have_figures(found)
    assert (found["candidates"], found["kept"], found["batches"]) == (8, 4, 3)
    text = (tmp_path / "probe" / "probe.md").read_text()
    assert text in done.stdout
    assert "- task: causal-lm\n" in text
    assert done.stdout.splitlines()[-1] == found["recommendation"]


@pytest.mark.parametrize(
    ("model", "data", "more", "notes"),
    [
        (
            "masked_lm",
            "train.txt",
            {"max_length": 16, "bf16": "true"},
            ["task: masked-lm", "data: 40 blocks of 16 tokens, drawn at random from"],
        ),
        (
            "sentence_classification",
            "train.csv",
            {},
            ["task: text-classification", "data: 40 rows drawn at random from 90"],
        ),
        (
            "image_classification",
            "pictures",
            {},
            ["task: image-classification", "classes: the 3 of label (apple, baby, bear)"],
        ),
    ],
)
def test_other_tasks(
    model: str, data: str, more: dict[str, Any], notes: list[str], inputs: Path, tmp_path: Path
) -> None:
    assert main([*command(inputs, model, data, **more), "--output", str(tmp_path)]) == 0
    found = found_in(tmp_path)
    assert_all_exits_have_figures(found)
    for note in notes:
        assert note in "\n".join(found["notes"])


@pytest.mark.parametrize("from_checkpoint", [False, True])
def test_losses_are_those_of_a_plain_loop(
    from_checkpoint: bool, inputs: Path, tmp_path: Path
) -> None:
    """rho_2 of the report is the mean of the larger of two rows' losses over the mean loss.

    A checkpoint's weights are in place of those that a model was freshly initialized with.
    """
    size, rows, folder = 15, 120, inputs / "models" / "causal_lm"
    options = {"max_length": size, "batches": 15, "gradient_batches": 0, "exits": -1}
    argv = command(inputs, "causal_lm", "train.jsonl", **options)
    if from_checkpoint:
        argv += ["--from_config", "--checkpoint", str(folder), "--seed", "7"]
    assert main([*argv, "--output", str(tmp_path)]) == 0

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    lines = (inputs / "data" / "train.jsonl").read_text().splitlines()
    tokens = [token for line in lines for token in tokenizer(json.loads(line)["text"]).input_ids]
    assert len(tokens) == rows * size  # so that all rows are scored, and none is left out
    losses = []
    for start in range(0, rows * size, size):
        block = torch.tensor([tokens[start : start + size]])
        with torch.no_grad():
            logits = model(input_ids=block).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, block[0, 1:]).double())
    values = torch.stack(losses)
    larger = torch.combinations(values).max(dim=1).values
    expected = float(larger.mean() / values.mean())
    assert found_in(tmp_path)["loss_ratio"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("model", "data", "more", "named"),
    [
        ("causal_lm", "train.jsonl", {"config": "x.yaml"}, "--config x.yaml and --model"),
        ("causal_lm", "train.jsonl", {"run": "loss"}, "--run loss is of a configuration"),
        ("causal_lm", "train.jsonl", {"sift_keep_ration": 1}, "did you mean '--sift_keep_ratio'"),
        ("causal_lm", "train.jsonl", {"txt_column": 1}, "did you mean '--text_column'"),
        ("causal_lm", "train.jsonl", {"sift_keep_ratio": 1}, "use one below 1, such as 0.5"),
        ("causal_lm", "train.jsonl", {"batches": 1}, "batches=1 must be a whole number of 2"),
        ("causal_lm", "train.jsonl", {"criteria": "luck"}, "sift_criterion='luck'"),
        ("causal_lm", "train.jsonl", {"fractions": 2}, "sift_token_fraction=2.0"),
        ("causal_lm", "train.jsonl", {"checkpoint": "no"}, "'no' has no model.safetensors"),
        ("causal_lm", "train.jsonl", {"exits": 9}, "it has 3 blocks, so use 1..3"),
        ("causal_lm", "train.jsonl", {"max_length": 1}, "max_length=1 must be 2 or more"),
        ("causal_lm", "train.jsonl", {"max_length": 64}, "max_length=64 is more than"),
        ("causal_lm", "train.jsonl", {"task": "poetry"}, "task='poetry' is unknown; choose one of"),
        ("causal_lm", "train.jsonl", {"task": "masked-lm"}, "a tokenizer with a mask token"),
        ("causal_lm", "train.jsonl", {"task": "image-classification"}, "image_processor='"),
        ("image_classification", "train.csv", {"task": "causal-lm"}, "--tokenizer"),
        ("causal_lm", "train.jsonl", {"split": "validation"}, "split='validation' cannot be read"),
        ("causal_lm", "train.jsonl", {"text_column": "words"}, "the columns are text"),
        ("causal_lm", "two_texts.csv", {}, "it could be title or body; the columns are title, "),
        ("causal_lm", "empty.jsonl", {}, "empty.jsonl has no rows"),
        ("causal_lm", "broken.jsonl", {}, "broken.jsonl with split='train' cannot be read: "),
        ("causal_lm", "no_text.jsonl", {}, "text_column='text' holds None, which is no text"),
        ("causal_lm", "nowhere*.txt", {}, "no such file; give files, a pattern"),
        ("causal_lm", "notes.docx", {}, "files must be .txt, .json, .jsonl, .csv"),
        ("nowhere", "train.jsonl", {}, "a folder with a config.json"),
        ("pretraining", "train.jsonl", {}, "add --task with one of masked-lm, causal-lm"),
        ("image_classification", "pictures", {"split": "dev"}, "split='dev' cannot be read"),
        (
            "sentence_classification",
            "train.jsonl",
            {},
            "label_column is not given, and none is clearly it",
        ),
        ("sentence_classification", "unlabelled.csv", {}, "label_column='label' holds -1"),
        ("sentence_classification", "shares.csv", {}, "holds 0.5, which is no class"),
        ("sentence_classification", "two_texts.csv", {}, "--text_column title"),
        ("sentence_classification", "train.csv", {"text_pair_column": "x"}, "add --text_column"),
    ],
)
def test_mistakes_end_in_one_line(
    model: str,
    data: str,
    more: dict[str, Any],
    named: str,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command(inputs, model, data, **more)) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert named in lines[0]
    assert "Traceback" not in captured.err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ([], "give --config FILE, or --model MODEL and --dataset DATA"),
        (["--model", "bert"], "dataset is missing beside model; add --dataset"),
        (["--dataset", "a.txt"], "model is missing beside dataset; add --model"),
        (["--model", "bert", "--dataset", "a.txt", "--output", __file__], "cannot be written"),
        (
            ["--model", "bert", "--dataset", str(Path(__file__).with_name("a.txt")), __file__],
            "no such file",
        ),
    ],
)
def test_missing_halves(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--use_cpu", "true"] if argv else []
    assert main(["probe", *options, *argv]) == 2
    assert named in capsys.readouterr().err


def test_without_datasets(
    inputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert main(command(inputs, "causal_lm", "train.jsonl")) == 2
    assert 'pip install "sift-trainer[data]"' in capsys.readouterr().err


def test_any_model_and_data_from_python(tmp_path: Path) -> None:
    """With plain arguments, which have no field of ours."""
    args = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=4, use_cpu=True, disable_tqdm=True
    )
    trainer: Trainer = SiftTrainer(bert(), args, default_data_collator, train_dataset=Rows(48))
    result = probe(trainer, criteria=["loss"], fractions=[1.0], batches=3, rounds=1)
    assert (result.candidates, result.kept) == (8, 4)
    assert [each.choice.exit_layer for each in result.figures] == [1, 2, 3]
