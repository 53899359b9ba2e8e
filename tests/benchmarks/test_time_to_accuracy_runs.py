"""A tiny grid from end to end on made-up rows: trained, charged, resumed, probed, told."""

import json
from dataclasses import replace

import pytest
import time_to_accuracy
import torch
from study import kinds
from study import page as study_page
from study import probed as study_probed
from study.data import Rows, StudyData
from study.grids import BUDGETS
from study.kinds import Regime
from study.results import Results, RunSpec
from study.text import VOCABULARY
from transformers import default_data_collator

TINY = Regime(
    "made up",
    "passages",
    data={},
    model={"hidden_size": 32, "num_hidden_layers": 2},
    steps=20,
    learning_rate=3e-3,
    batch_size=4,
)


def made_up(*_):
    """The first word piece tells the class."""
    ids = torch.randint(100, (64, 8), generator=torch.Generator().manual_seed(0))
    rows = Rows(ids, ids[:, 0] % 3)
    return StudyData(rows, rows, rows, default_data_collator, 3)


def specs(name):
    return [
        *(RunSpec(name, "vanilla", 0, budget) for budget in (BUDGETS[0], 1.0)),
        RunSpec(name, "loss", 0),
        RunSpec(name, "random", 0),
    ]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A results file, and a call of the command that writes to it."""
    folder = tmp_path_factory.mktemp("study")
    file = folder / "results.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        for module in (time_to_accuracy, study_page, study_probed):
            patch.setattr(module, "REGIMES", {"made_up": TINY})
        patch.setattr(time_to_accuracy, "load", made_up)
        patch.setattr(time_to_accuracy, "GRIDS", {"study": specs})

        def command(name, *more):
            time_to_accuracy.main([name, "--results", str(file), *more])

        threads = torch.get_num_threads()
        command("run", "--data", str(folder), "--use_cpu")
        yield file, command
        torch.set_num_threads(threads)


def test_every_run_is_within_its_budget_and_none_wastes_a_step(study):
    file, _ = study
    results = Results(file)
    (cost,) = (line for line in results.lines if line["kind"] == "cost")
    assert (cost["regime"], cost["criterion"], cost["exit_layer"]) == ("made_up", "loss", 1)
    assert cost["share_range"][0] <= cost["share"] <= cost["share_range"][1]
    short, whole, loss, random = (results.find_run(spec) for spec in specs("made_up"))
    assert [run["cost"] for run in (short, whole, random)] == [BUDGETS[0] * 20, 20, 20]
    steps = loss["settings"]["steps"]
    sifted = (steps - steps // 10) - steps // 4  # of the method's schedule
    assert loss["cost"] == pytest.approx(steps + sifted * cost["share"])
    assert 20 - 2 * (1 + cost["share"]) < loss["cost"] <= 20


def test_a_run_has_its_curve_and_its_settings(study):
    file, _ = study
    for line in Results(file).lines:
        if line["kind"] != "run":
            continue
        last = line["curve"][-1]
        assert last["step"] == line["settings"]["steps"]
        assert last["accuracy"] == line["accuracy"]
        assert last["cost"] == pytest.approx(line["cost"])
        costs = [point["cost"] for point in line["curve"]]
        assert costs == sorted(costs)
        assert len(line["curve"]) > 1
        assert line["settings"]["regime"]["steps"] == 20
        # The same rows serve for both here.
        assert line["trained_loss"] == pytest.approx(line["loss"])


def test_finished_runs_are_left_alone_and_a_half_written_one_is_done_again(study):
    file, command = study
    before = file.read_text()
    command("run", "--data", "nowhere", "--use_cpu")
    assert file.read_text() == before
    *whole, last = before.splitlines()
    assert json.loads(last)["method"] == "random"
    file.write_text("\n".join([*whole, last[: len(last) // 2]]))
    command("run", "--data", "nowhere", "--use_cpu")
    runs = [line for line in Results(file).lines if line["kind"] == "run"]
    assert [run["method"] for run in runs] == ["vanilla", "vanilla", "loss", "random"]
    assert runs[-1]["accuracy"] == json.loads(last)["accuracy"]  # a run is a function of its spec


def test_a_run_that_would_end_too_late_is_left_for_another_time(tmp_path, capsys, study):
    other = tmp_path / "other.jsonl"
    to = ("run", "--data", "nowhere", "--use_cpu", "--results", str(other))
    time_to_accuracy.main([*to, "--minutes", "0"])
    assert "made_up: 4 left for another time" in capsys.readouterr().err
    assert not Results(other).find_run(specs("made_up")[0])


def test_probe_and_report(study, tmp_path, capsys):
    file, command = study
    command("probe", "--data", "nowhere", "--use_cpu", "--seconds", "20")
    command("probe", "--data", "nowhere", "--use_cpu")  # is there
    probes = [line for line in Results(file).lines if line["kind"] == "probe"]
    assert [line["held_out"] for line in probes] == ["candidates", "evaluation"]
    assert probes[0]["step"] == 5
    assert all(line["gradient_batches"] > len(made_up().train) / 8 for line in probes)  # passes
    capsys.readouterr()
    command("report")
    printed = capsys.readouterr().out
    assert "| vanilla" in printed
    assert "| loss" in printed
    page = tmp_path / "page.md"
    places = [f"{study_page.BEGIN.format(n)}\nold\n{study_page.END}" for n in study_page.tables([])]
    page.write_text(
        "\n".join(["Before.", "![shown](time_to_accuracy_made_up.png)", *places, "After."])
    )
    command("report", "--page", str(page))
    written = page.read_text()
    assert "old" not in written
    assert written.startswith("Before.")
    assert written.endswith("After.")
    assert all(table.strip() in written for table in printed.split("\n\n"))
    assert (tmp_path / "time_to_accuracy_made_up.png").is_file()
    command("report", "--page", str(page))
    assert page.read_text() == written  # and again the same
    page.write_text("nothing")
    with pytest.raises(ValueError, match="no place for the table 'summary'"):
        command("report", "--page", str(page))


def test_a_regime_that_is_none_is_refused(study):
    with pytest.raises(ValueError, match=r"regimes='imges' is unknown; choose of made_up"):
        time_to_accuracy.chosen(["imges"])
    assert time_to_accuracy.chosen(None) == ["made_up"]


def test_what_is_for_a_gpu_is_not_begun_without_one_unless_it_is_named(monkeypatch):
    (first, *_) = time_to_accuracy.FOR_GPU
    monkeypatch.setattr(time_to_accuracy, "REGIMES", {"made_up": TINY, first: TINY})
    for has, expected in ((False, False), (True, True)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has=has: has)
        assert (first in time_to_accuracy.chosen(None)) is expected
        assert time_to_accuracy.chosen([first]) == [first]


def test_runs_of_a_pretrained_regime_begin_with_one_base_model(tmp_path, monkeypatch):
    """Its weights are made once; the head is of each seed."""
    for name in ("causal", "causal_passages"):
        monkeypatch.setitem(kinds.KINDS, name, made_up_kind(name))
    monkeypatch.setattr(kinds, "learn_surprisals", lambda *_: None)  # which registers a criterion
    shape = {"hidden_size": 32, "num_hidden_layers": 2}
    before = Regime("before", "causal", {}, shape, steps=3, learning_rate=1e-3, batch_size=4)
    tuned = replace(TINY, kind="causal_passages", pretrained=before)
    models = []
    for seed in (0, 1):
        data = kinds.load(tuned, tmp_path, tmp_path)
        args = kinds.arguments(tuned, tmp_path, seed=seed, max_steps=1, use_cpu=True)
        models.append(kinds.build_trainer(tuned, data, args).model)
    bases = [model.base_model.state_dict() for model in models]
    assert all(torch.equal(bases[0][name], bases[1][name]) for name in bases[0])
    assert not torch.equal(models[0].score.weight, models[1].score.weight)
    (file,) = tmp_path.glob("pretrained_*.pt")
    assert torch.equal(torch.load(file)["wte.weight"], bases[0]["wte.weight"])
    fresh = kinds.build_trainer(
        replace(tuned, pretrained=None), replace(data, pretrained=None), args
    )
    assert not torch.equal(fresh.model.base_model.wte.weight, bases[0]["wte.weight"])


def made_up_kind(name):
    def load(*_):
        found = made_up()
        if name == "causal":
            found = replace(found, train=Rows(found.train.input_ids, found.train.input_ids))
            return replace(found, classes=VOCABULARY)
        return found

    return replace(kinds.KINDS[name], load=load)
