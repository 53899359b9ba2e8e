"""``sift-trainer probe``: configurations, models and datasets by name, and mistakes."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sift_trainer import __version__
from sift_trainer.__main__ import main
from tests.image_classification.toy import RESNET50
from tests.image_classification.toy import tiny as tiny_resnet
from tests.reproduction.bert.toy import TINY, flags, on_a_file

FEW = flags(batches=3, gradient_batches=2)
CPU: dict[str, Any] = {"use_cpu": "true", "disable_tqdm": "true"}
QUICK = {**CPU, "per_device_train_batch_size": 4, "batches": 3, "gradient_batches": 2}


def named(folder: Path, model: str, data: str, **more: Any) -> list[str]:
    """A probe of ``folder/models/model`` on ``folder/data/data``, by one criterion."""
    names = {"model": folder / "models" / model, "dataset": folder / "data" / data}
    return ["probe", *flags(**{**names, **QUICK, "criteria": "loss", "fractions": 1, **more})]


def found_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "probe.json").read_text())
    return found


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The quickstart on a few made-up sentences, prepared by the first probe."""
    folder = tmp_path_factory.mktemp("quickstart")
    settings = {**TINY, **CPU, "output_dir": folder / "out"}
    return ["probe", *on_a_file(folder, 40), *flags(**settings)]


def test_quickstart(quickstart: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*quickstart, *FEW]) == 0
    printed = capsys.readouterr().out
    folder = Path(quickstart[quickstart.index("--output_dir") + 1]) / "loss" / "probe"
    assert {file.name for file in folder.iterdir()} == {"probe.md", "probe.json", "probe.png"}
    assert (folder / "probe.png").read_bytes().startswith(b"\x89PNG")
    text = (folder / "probe.md").read_text()
    assert text in printed
    assert text.startswith(("Sift by ", "Do not sift"))
    found = found_in(folder)
    assert found["recommendation"] == text.splitlines()[0] == printed.splitlines()[-1]
    assert [each["choice"] for each in found["figures"]] == [
        {"criterion": criterion, "exit_layer": k, "token_fraction": share}
        for criterion in ("loss", "entropy")
        for k in (1, 2)
        for share in (1.0, 0.25)
    ]
    assert found["batches"] == 3


def test_a_run_that_does_not_sift_is_probed_as_if_it_kept_half(
    quickstart: list[str], tmp_path: Path
) -> None:
    options = ["--run", "vanilla", "--exits", "-1", "--criteria", "loss", "--output", str(tmp_path)]
    assert main([*quickstart, *FEW, *options, "--fractions", "1"]) == 0
    found = found_in(tmp_path)
    assert (found["candidates"], found["kept"]) == (8, 4)
    (figures,) = found["figures"]
    assert figures["choice"]["exit_layer"] == 2
    assert figures["overlap"]["value"] == 1


def test_resnet(tmp_path: Path) -> None:
    config = tiny_resnet(tmp_path, RESNET50 / "table_2.yaml", train=40, seed=1)
    assert main(["probe", *config, *FEW, "--output", str(tmp_path / "found")]) == 0
    found = found_in(tmp_path / "found")
    assert found["model"] == "EarlyExitResNetForImageClassification"
    assert {each["choice"]["exit_layer"] for each in found["figures"]} == {1, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--run", "lost"], "--run lost: no such run; there is vanilla, loss, entropy"),
        (["--hiden_size", "8"], "did you mean '--hidden_size'"),
        (["--max_length", "1"], "max_length=1"),
        (["--task", "masked-lm"], "unknown argument '--task'"),
        (["--exits", "9"], "it has 2 blocks, so use 1..2"),
        (["--checkpoint", "nowhere"], "has no model.safetensors"),
    ],
)
def test_mistakes_beside_a_configuration_end_in_one_line(
    options: list[str], message: str, quickstart: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*quickstart, *FEW, *options]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert captured.out == ""


@pytest.mark.parametrize(
    ("model", "data", "more", "note"),
    [
        ("causal_lm", "train.jsonl", {}, "task: causal-lm"),
        ("masked_lm", "train.txt", {"max_length": 16, "bf16": "true"}, "40 blocks of 16 tokens"),
        ("sentence_classification", "train.csv", {}, "40 rows drawn at random from 90"),
        ("image_classification", "pictures", {}, "the 3 of label (apple, baby, bear)"),
    ],
)
def test_tasks(
    model: str,
    data: str,
    more: dict[str, Any],
    note: str,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing but the report is left in the working directory."""
    monkeypatch.chdir(tmp_path)
    assert main(named(inputs, model, data, **more)) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["probe"]
    found = found_in(tmp_path / "probe")
    assert note in "\n".join(found["notes"])
    assert (found["candidates"], found["kept"], found["batches"]) == (8, 4, 3)
    assert [each["choice"]["exit_layer"] for each in found["figures"]] == [1, 2, 3]
    for each in found["figures"]:
        assert each["scoring_share"]["value"] > 0
        assert each["descent"]["kept"] is not None
        assert each["gradient_norms"]["kept"] > 0
    assert found["figures"][-1]["overlap"]["value"] == 1


def test_losses_are_those_of_a_plain_loop(inputs: Path, tmp_path: Path) -> None:
    """rho_2 of the report is the mean of the larger of two rows' losses over the mean loss. The
    weights of a checkpoint replace those of a freshly initialized model."""
    size, rows, folder = 15, 120, inputs / "models" / "causal_lm"
    options = {"max_length": size, "batches": 15, "gradient_batches": 0, "exits": -1}
    argv = named(inputs, "causal_lm", "train.jsonl", **options)
    argv += ["--from_config", "--checkpoint", str(folder), "--seed", "7"]
    assert main([*argv, "--output", str(tmp_path)]) == 0

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    lines = (inputs / "data" / "train.jsonl").read_text().splitlines()
    tokens = [token for line in lines for token in tokenizer(json.loads(line)["text"]).input_ids]
    assert len(tokens) == rows * size  # all rows are scored
    losses = []
    for start in range(0, rows * size, size):
        block = torch.tensor([tokens[start : start + size]])
        with torch.no_grad():
            logits = model(input_ids=block).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, block[0, 1:]).double())
    values = torch.stack(losses)
    expected = float(torch.combinations(values).max(dim=1).values.mean() / values.mean())
    assert found_in(tmp_path)["loss_ratio"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("model", "data", "more", "message"),
    [
        ("causal_lm", "train.jsonl", {"run": "loss"}, "--run loss is of a configuration"),
        ("causal_lm", "train.jsonl", {"sift_keep_ration": 1}, "did you mean '--sift_keep_ratio'"),
        ("causal_lm", "train.jsonl", {"txt_column": 1}, "did you mean '--text_column'"),
        ("causal_lm", "train.jsonl", {"sift_keep_ratio": 1}, "use one below 1, such as 0.5"),
        ("causal_lm", "train.jsonl", {"criteria": "luck"}, "sift_criterion='luck'"),
        ("causal_lm", "train.jsonl", {"max_length": 64}, "max_length=64 is more than"),
        ("causal_lm", "train.jsonl", {"task": "poetry"}, "task='poetry' is unknown; choose one of"),
        ("question_answering", "train.jsonl", {}, "add --task with one of masked-lm, causal-lm"),
        ("causal_lm", "train.jsonl", {"text_column": "words"}, "the columns are text"),
        ("causal_lm", "two_texts.csv", {}, "--text_column title; the columns are title, body"),
        ("causal_lm", "broken.jsonl", {}, "JSON parse error"),
        ("causal_lm", "no_text.jsonl", {}, "holds None, which is not a text"),
        ("causal_lm", "nowhere*.txt", {}, "no such file; give files, a pattern"),
        ("causal_lm", "notes.docx", {}, "give files of one kind out of .txt, .json, .jsonl, .csv"),
        ("nowhere", "train.jsonl", {}, "nowhere"),
        ("sentence_classification", "unlabelled.csv", {}, "label_column='label' holds -1, 1"),
        ("sentence_classification", "shares.csv", {}, "label_column='label' holds 0.5, 1.5"),
    ],
)
def test_mistakes_beside_names_end_in_one_line(
    model: str,
    data: str,
    more: dict[str, Any],
    message: str,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(named(inputs, model, data, **more)) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not [*tmp_path.iterdir()]


def test_nothing_to_probe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--dataset", "a.txt"]) == 2
    assert "model=None, dataset=['a.txt']: both are needed" in capsys.readouterr().err
    assert main(["probe", "--config", "none.yaml"]) == 2
    assert "is not a file" in capsys.readouterr().err


def test_help_and_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By ``python -m sift_trainer``."""
    for argv, expected in (
        (["probe", "--help"], ("--max_seconds", "--text_column")),
        (["--version"], (f"sift-trainer {__version__}",)),
    ):
        monkeypatch.setattr(sys, "argv", ["sift-trainer", *argv])
        with pytest.raises(SystemExit) as end:
            runpy.run_module("sift_trainer", run_name="__main__")
        assert end.value.code == 0
        printed = capsys.readouterr().out
        assert all(each in printed for each in expected)
