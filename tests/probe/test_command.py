"""``sift-trainer probe``: configurations, models and datasets by name, and mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest

from sift_trainer.__main__ import main
from tests.reproduction.bert.toy import TINY, flags, on_a_file
from tests.reproduction.resnet.toy import RESNET50
from tests.reproduction.resnet.toy import tiny as tiny_resnet

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
        for criterion in ("predicted_loss", "loss", "entropy")
        for k in (1, 2)
        for share in ((1.0,) if criterion == "predicted_loss" else (1.0, 0.25))
    ]
    assert found["batches"] == 3


def test_a_run_that_does_not_sift_is_probed_as_if_it_kept_half(
    quickstart: list[str], tmp_path: Path
) -> None:
    options = flags(run="vanilla", exits=-1, criteria="loss", output=tmp_path, fractions=1)
    assert main([*quickstart, *FEW, *options]) == 0
    found = found_in(tmp_path)
    assert (found["candidates"], found["kept"]) == (8, 4)


def test_resnet(tmp_path: Path) -> None:
    config = tiny_resnet(tmp_path, RESNET50 / "table_2.yaml", train=40, seed=1)
    assert main(["probe", *config, *FEW, "--output", str(tmp_path / "found")]) == 0
    found = found_in(tmp_path / "found")
    assert found["model"] == "EarlyExitResNetForImageClassification"
    assert {each["choice"]["exit_layer"] for each in found["figures"]} == {1, 2}


PAIRS = {"text_column": "sentence1", "text_pair_column": "sentence2"}


@pytest.mark.parametrize(
    ("model", "data", "more", "note"),
    [
        ("causal_lm", "train.jsonl", {}, "task: causal-lm"),
        ("masked_lm", "train.txt", {"max_length": 16, "bf16": "true"}, "40 blocks of 16 tokens"),
        ("sentence_classification", "train.csv", PAIRS, "40 rows drawn at random from 90"),
        ("image_classification", "pictures", {}, "classes: apple, baby, bear"),
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
    assert all(each["descent"]["kept"] is not None for each in found["figures"])
    assert found["figures"][-1]["overlap"]["value"] == 1


# Of a model and a dataset, or of a configuration.
MISTAKES: list[tuple[str, str, dict[str, Any], str]] = [
    ("causal_lm", "train.jsonl", {"run": "loss"}, "--run loss is of a configuration"),
    ("causal_lm", "train.jsonl", {"txt_column": 1}, "--txt_column"),
    ("causal_lm", "train.jsonl", {"sift_keep_ratio": 1}, "use one below 1, such as 0.5"),
    ("causal_lm", "train.jsonl", {"criteria": "luck"}, "sift_criterion='luck'"),
    ("question_answering", "train.jsonl", {}, "add --task with one of masked-lm, causal-lm"),
    ("causal_lm", "train.jsonl", {"text_column": "words"}, "the columns are text"),
    ("causal_lm", "nowhere.txt", {}, "nowhere.txt"),
    ("sentence_classification", "unlabelled.csv", {}, "label_column='label' holds -1, 1"),
    ("", "", {"run": "lost"}, "--run lost: no such run; there is vanilla, loss, entropy"),
    ("", "", {"task": "masked-lm"}, "unknown argument '--task'"),
    ("", "", {"exits": 9}, "it has 2 blocks, so use 1..2"),
    ("", "", {"checkpoint": "nowhere"}, "has no model.safetensors"),
]


def test_mistakes_end_in_one_line(
    inputs: Path,
    quickstart: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    mistakes = [
        (named(inputs, *names, **more) if names[0] else [*quickstart, *FEW, *flags(**more)], told)
        for *names, more, told in MISTAKES
    ]
    mistakes.append((["probe", "--dataset", "a.txt"], "model=None, dataset=['a.txt']: both are"))
    for argv, message in mistakes:
        assert main(argv) == 2
        captured = capsys.readouterr()
        (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
        assert message in line
        assert not [*tmp_path.iterdir()]
