"""``sift-trainer probe`` on both experiments made tiny, and what it says of mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sift_trainer.commands import main
from tests.image_classification.toy import RESNET50
from tests.image_classification.toy import tiny as tiny_resnet
from tests.pretraining.toy import TINY, flags, on_a_file

FEW = flags(batches=3, gradient_batches=2)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags of the quickstart on a few made-up sentences, prepared by the first probe."""
    folder = tmp_path_factory.mktemp("quickstart")
    settings = {**TINY, "use_cpu": "true", "disable_tqdm": "true", "output_dir": folder / "out"}
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
    found = json.loads((folder / "probe.json").read_text())
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
    found = json.loads((tmp_path / "probe.json").read_text())
    assert (found["candidates"], found["kept"]) == (8, 4)
    (figures,) = found["figures"]
    assert figures["choice"]["exit_layer"] == 2
    assert figures["overlap"]["value"] == 1


def test_resnet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_resnet(tmp_path, RESNET50 / "table_2.yaml", train=40, seed=1)
    assert main(["probe", *config, *FEW, "--output", str(tmp_path / "found")]) == 0
    found = json.loads((tmp_path / "found" / "probe.json").read_text())
    assert found["model"] == "EarlyExitResNetForImageClassification"
    assert {each["choice"]["exit_layer"] for each in found["figures"]} == {1, 2}
    assert all(each["beta"] is None for each in found["figures"][2:])  # by entropy
    assert capsys.readouterr().out.startswith(("Sift by ", "Do not sift"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--run", "lost"], "--run lost: no such run; there is vanilla, loss, entropy"),
        (["--exits", "9"], "it has 2 blocks, so use 1..2"),
        (["--hiden_size", "8"], "did you mean '--hidden_size'"),
        (["--checkpoint", "nowhere"], "has no model.safetensors"),
        (["--max_seconds", "1e-9"], "was up after 1 batch"),
        (["--criteria", "luck"], "sift_criterion='luck'"),
    ],
)
def test_mistakes_end_in_one_line(
    options: list[str], named: str, quickstart: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*quickstart, *FEW, *options]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert named in lines[0]
    assert captured.out == ""


def test_no_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "is not a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--model", "bert"], "--model bert exclude each other"),
        (["--dataset", "a.txt", "b.txt"], "--dataset a.txt b.txt exclude each other"),
        (["--task", "masked-lm"], "--task masked-lm exclude each other"),
    ],
)
def test_a_configuration_has_its_own_model_and_data(
    more: list[str], named: str, quickstart: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*quickstart, *more]) == 2
    assert named in capsys.readouterr().err


def test_fields_of_a_configuration_that_have_the_same_names(
    quickstart: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """``max_length`` is of both; so is ``dataset`` for images."""
    assert main([*quickstart, "--max_length", "1"]) == 2
    assert "max_length=1" in capsys.readouterr().err
    images = ["probe", "--config", str(RESNET50 / "table_2.yaml"), "--use_cpu", "true"]
    assert main([*images, "--dataset", "pictures"]) == 2
    assert "dataset='pictures'" in capsys.readouterr().err


def test_help_loads_no_experiment() -> None:
    code = (
        "import sys; from sift_trainer.commands import main\n"
        "try: main(['probe', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not [name for name in sys.modules if name.startswith('sift_trainer.pretraining')]"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert "--max_seconds" in done.stdout
    assert "--text_column" in done.stdout
