"""The study: charges and frontier by hand, and a tiny grid from end to end on made-up rows."""

from pathlib import Path

import pytest
import time_to_accuracy
import torch
from study import tables as study_tables
from study.charge import AUDIT, Frontier, affordable_steps, charge, sifted_steps
from study.data import Rows, StudyData
from study.regimes import Regime
from study.results import Results, RunSpec
from transformers import default_data_collator

HALF = {"sift_keep_ratio": 0.5, "sift_warmup_steps": 0.25, "sift_cooldown_steps": 0.1}


def test_charges() -> None:
    """Of 100 steps those from 25 to 89 sift: 100 + 65 * 0.2, and five audits with a gate."""
    assert sifted_steps(100, HALF) == 65
    assert charge(100, HALF, 0.2) == pytest.approx(113)
    assert charge(100, {"sift_keep_ratio": 1.0}, 0.2) == 100
    gated = {**HALF, "sift_audit_steps": 20, "sift_gate": "descent"}
    assert charge(100, gated, 0.2) == pytest.approx(100 + 5 * AUDIT["candidates"])
    assert charge(100, gated, 0.2, sifted=7) == pytest.approx(101.4 + 5 * AUDIT["candidates"])
    throughout = {**HALF, "sift_warmup_steps": 0.0, "sift_cooldown_steps": 0.0}
    assert affordable_steps(100, throughout, 0.25) == 80


def test_cost_of_equal_accuracy_is_interpolated_and_never_extrapolated() -> None:
    """Means .4 at 50, .5 at 100, .6 at 200."""
    frontier = Frontier({50: [0.4], 100: [0.45, 0.55], 200: [0.6]})
    assert [frontier.ratio(100, each) for each in (0.55, 0.45, 0.4)] == ["0.67", "1.33", "2.00"]
    assert frontier.ratio(100, 0.7) == "<0.50"  # vanilla needs more than 200
    assert frontier.ratio(100, 0.1) == ">2.00"  # vanilla needs less than 50
    assert frontier.ratios(100, [0.5, 0.6]) == "0.67 (0.50 to 1.00)"
    falling = Frontier({100: [0.5], 200: [0.6], 400: [0.55]})
    assert falling.cost_of(0.55) == pytest.approx(150)  # where it is reached first
    assert falling.cost_of(0.65) is None


def test_a_tiny_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, charged, resumed after a half-written line, and reported."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2}
    regime = Regime("made up", "passages", {}, shape, 20, learning_rate=3e-3, batch_size=4)
    ids = torch.randint(100, (64, 8), generator=torch.Generator().manual_seed(0))
    rows = Rows(ids, ids[:, 0] % 3)  # the first word piece tells the class

    def specs(name: str) -> list[RunSpec]:
        vanilla = [RunSpec(name, "vanilla", 0, budget) for budget in (0.5, 1.0)]
        return [*vanilla, RunSpec(name, "loss", 0), RunSpec(name, "random", 0)]

    data = StudyData(rows, rows, rows, default_data_collator, 3)
    monkeypatch.setattr(time_to_accuracy, "load", lambda *_: data)
    monkeypatch.setattr(time_to_accuracy, "GRIDS", {"study": specs})
    monkeypatch.setitem(time_to_accuracy.REGIMES, "made_up", regime)
    file = tmp_path / "results.jsonl"
    command = ["run", "--regimes", "made_up", "--data", "none", "--use_cpu"]
    command += ["--results", str(file)]
    time_to_accuracy.main(command)
    whole = file.read_text()
    results = Results(file)
    (cost,) = (line for line in results.lines if line["kind"] == "cost")
    short, vanilla, loss, random = (results.find_run(spec) for spec in specs("made_up"))
    assert [run["cost"] for run in (short, vanilla, random)] == [10, 20, 20]
    sifted = sifted_steps(loss["settings"]["steps"], HALF)
    assert loss["sifted_steps"] == sifted
    assert loss["cost"] == pytest.approx(loss["settings"]["steps"] + sifted * cost["share"])
    assert 20 - (1 + cost["share"]) < loss["cost"] <= 20
    assert all(run["trained_loss"] == pytest.approx(run["loss"]) for run in (vanilla, loss))

    time_to_accuracy.main(command)
    assert file.read_text() == whole
    file.write_text(whole[:-200])
    time_to_accuracy.main(command)
    assert Results(file).find_run(specs("made_up")[-1])["accuracy"] == random["accuracy"]

    page = tmp_path / "page.md"
    places = [
        f"{study_tables.BEGIN.format(n)}\nold\n{study_tables.END}" for n in ("regimes", "gate")
    ]
    page.write_text("\n".join(places))
    with pytest.raises(ValueError, match="no place for 'methods'"):
        time_to_accuracy.main(["report", "--results", str(file), "--page", str(page)])
    page.write_text("\n".join([*places, places[0].replace("regimes", "methods")]))
    time_to_accuracy.main(["report", "--results", str(file), "--page", str(page)])
    assert f"| loss | 1 | {cost['share']:.3f} |" in page.read_text()
    assert "old" not in page.read_text()
    assert (tmp_path / "time_to_accuracy.png").is_file()
