"""Means and spreads over seeds, by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sift_trainer.seeds import mean_run, read_seeds, spread_table

ROOT = Path(__file__).parents[1]
PHASES = ("data", "sampling", "forward", "backward", "optimizer")


def write_run(folder: Path, accuracies: list[float], hours: float, sampling: float) -> None:
    lines = [{"event": "start", "step": 0}]
    for index, accuracy in enumerate(accuracies, start=1):
        spent = {f"sift/{phase}_hours": 0.0 for phase in PHASES}
        spent |= {"sift/forward_hours": hours * index, "sift/sampling_hours": sampling * index}
        step = 10 * index
        counts = {"sift/backprop_samples": 4 * step, "sift/candidates": 8 * step}
        lines.append({"event": "log", "step": step, "loss": 1.0, **spent, **counts})
        evaluated = {"eval_mlm_accuracy": accuracy, "eval_nsp_accuracy": 0.5}
        lines.append({"event": "log", "step": step, **evaluated})
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    for seed, shift in enumerate((0.0, 0.02, 0.1)):
        folder = tmp_path / f"seed_{seed}"
        write_run(folder / "vanilla", [0.1 + shift, 0.3], 1 + seed, 0.0)
        write_run(folder / "loss", [0.2, 0.4 + shift], 1 + seed, 0.5)
    return sorted(tmp_path.iterdir())


def test_means_point_by_point(folders: list[Path]) -> None:
    groups = read_seeds(folders)
    assert {name: len(runs) for name, runs in groups.items()} == {"loss": 3, "vanilla": 3}
    run = mean_run("loss", groups["loss"])
    assert [point.accuracy for point in run.points] == pytest.approx([0.2, 0.44])
    assert [point.nsp_accuracy for point in run.points] == [0.5, 0.5]
    assert run.final.spent.seconds["forward"] == pytest.approx(2 * 2 * 3600)
    assert run.final.spent.backprop_samples == 80
    ((begin, end),) = run.sifted
    assert (begin.step, end.step) == (0, 20)
    assert not mean_run("vanilla", groups["vanilla"]).sifted


def test_the_table_shows_the_spread(folders: list[Path]) -> None:
    text = spread_table(read_seeds(folders))
    assert "0.1400 (0.1000 to 0.2000)" in text
    assert "0.4400 (0.4000 to 0.5000)" in text
    assert text.count("\n") == 4


def test_the_script_writes_tables_figure_and_numbers(folders: list[Path], tmp_path: Path) -> None:
    script, output = ROOT / "scripts" / "compare_seeds.py", tmp_path / "out" / "compared"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), *map(str, folders), "--output", str(output)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    text = output.with_suffix(".md").read_text()
    assert text in done.stdout
    assert text.index("| vanilla ") < text.index("| loss ")
    assert "+0.1400" in text  # .44 against .30
    assert output.with_suffix(".png").stat().st_size > 10_000
    assert len(json.loads(output.with_suffix(".json").read_text())["seeds"]["loss"]) == 3


def test_what_cannot_be_compared_is_refused(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder in it has a log\.jsonl"):
        read_seeds([tmp_path / "seed_0" / "loss"])
    write_run(tmp_path / "seed_3" / "vanilla", [0.1], 1, 0)
    with pytest.raises(ValueError, match=r"seed_3 has the runs \['vanilla'\]"):
        read_seeds([*folders, tmp_path / "seed_3"])
    write_run(tmp_path / "seed_3" / "loss", [0.1], 1, 0)
    groups = read_seeds([*folders, tmp_path / "seed_3"])
    with pytest.raises(ValueError, match="was evaluated at the steps"):
        mean_run("loss", groups["loss"])
