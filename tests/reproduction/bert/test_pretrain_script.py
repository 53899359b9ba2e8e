"""Pre-training of several runs: in this process on a toy corpus, and by the script."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from sift_trainer import StopOnSignal
from sift_trainer.reproduction.bert import PRETRAINING, main, prepare
from sift_trainer.reproduction.configuration import ConfigError
from tests.reproduction.bert.toy import (
    BATCH,
    QUICKSTART,
    ROOT,
    STEPS,
    TINY,
    documents,
    flags,
    on_a_file,
)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Flags for the quickstart on a corpus of random words."""
    embedded = "sift_trainer.reproduction.corpus.sources.documentation"
    monkeypatch.setattr(embedded, lambda: documents(100))
    cache = {"cache_dir": tmp_path / "cache", "vocab_size": 60, "use_cpu": "true"}
    return ["--config", str(QUICKSTART), *flags(**TINY, **cache)]


def results(folder):
    return json.loads((folder / "results.json").read_text())


def history(folder):
    return json.loads((folder / "trainer_state.json").read_text())["log_history"]


def check_outputs(folder):
    """The files of three tiny runs."""
    spent = {run["name"]: run["points"][-1]["spent"] for run in results(folder)["runs"]}
    assert list(spent) == ["vanilla", "loss", "entropy"]
    for name, totals in spent.items():
        assert totals["step"] == STEPS
        assert totals["backprop_samples"] == STEPS * BATCH
        assert totals["candidates"] == STEPS * BATCH * (1 if name == "vanilla" else 2)
        assert (totals["seconds"]["sampling"] > 0) == (name != "vanilla")
        assert results(folder / name)["run"]["name"] == name
        assert list((folder / name).rglob("events.out.tfevents.*"))
    assert (folder / f"{folder.name}.png").stat().st_size > 20_000
    assert (folder / "table.md").read_text().count("\n| vanilla ") == 2
    assert not [path for path in folder.rglob("*") if path.name.startswith(".results")]


def test_three_runs_of_the_quickstart(toy, tmp_path, capsys):
    folder = tmp_path / "out"
    main([*toy, "--output_dir", str(folder)])
    check_outputs(folder)
    assert (folder / "table.md").read_text() in capsys.readouterr().out
    evaluated = [line["step"] for line in history(folder / "loss") if "eval_mlm_accuracy" in line]
    assert evaluated == [3, 6]
    # Data order, masks and initialization depend on the seed, not on the runs before.
    main([*toy, "--output_dir", str(tmp_path / "one"), "--runs", "entropy"])
    losses = [
        [line.get("eval_loss") for line in history(parent / "entropy")]
        for parent in (folder, tmp_path / "one")
    ]
    assert losses[0] == losses[1]
    assert not (tmp_path / "one" / "vanilla").exists()


def test_runs_of_separate_calls_share_a_table(toy, tmp_path, capsys):
    """As the rows of Table 1, each of which is a launch of its own."""
    for name in ("entropy", "vanilla"):
        main([*toy, *flags(output_dir=tmp_path / "out", runs=name)])
    text = capsys.readouterr().out.rpartition("| run ")[2]
    assert [line.split()[1] for line in text.splitlines()[2:4]] == ["vanilla", "entropy"]
    assert [run["name"] for run in results(tmp_path / "out")["runs"]] == ["vanilla", "entropy"]
    # The corpus is prepared by now, so that a dry run knows its epochs.
    log = (tmp_path / "out" / "entropy" / "log.jsonl").read_text().splitlines()[0]
    rows = json.loads(log)["corpus"]["statistics"]["train_rows"]
    main([*toy, *flags(output_dir=tmp_path / "out", runs="entropy", dry_run="true")])
    epochs = STEPS * BATCH / rows
    assert f"{epochs:.2f} of {rows:,} rows" in capsys.readouterr().out


def test_latest_leaves_finished_runs_as_they_are_and_goes_on_with_longer_ones(toy, tmp_path):
    toy = [*toy, *flags(output_dir=tmp_path / "out", save_strategy="steps", save_steps=3)]
    main([*toy, *flags(runs="loss")])
    log = tmp_path / "out" / "loss" / "log.jsonl"
    lines, table = log.read_text(), (tmp_path / "out" / "table.md").read_text()
    main([*toy, *flags(runs="loss", resume_from_checkpoint="latest")])
    assert log.read_text() == lines
    assert (tmp_path / "out" / "table.md").read_text() == table
    longer = flags(runs="loss", resume_from_checkpoint="latest", max_steps=STEPS + 3)
    (run,) = main([*toy, *longer])
    assert run.final.spent.candidates == (STEPS + 3) * BATCH * 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_length": 65}, "max_length=65 is above max_position_embeddings=64"),
        ({"sift_exit_layer": 3}, "run 'loss': exit layer 3 .* use 1..2"),
        ({"sift_warmup_steps": 6}, "run 'loss': sift_warmup_steps=6.*no step would sift"),
        ({"resume_from_checkpoint": "here"}, "resume_from_checkpoint='here' fits one of 3 runs"),
    ],
)
def test_refused_before_the_corpus_is_touched(toy, tmp_path, monkeypatch, values, message):
    def touched(*_, **__):
        raise AssertionError("the corpus was prepared")

    untouched = replace(PRETRAINING, load_data=touched)
    monkeypatch.setattr("sift_trainer.reproduction.bert.job.PRETRAINING", untouched)
    with pytest.raises(ConfigError, match=message):
        main([*toy, "--output_dir", str(tmp_path), *flags(**values)])


@pytest.mark.slow
def test_the_script_as_it_ships(tmp_path):
    """On the real corpus, which stays in the cache for the quickstart itself."""
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(ROOT / "configs" / "accelerate" / "cpu.yaml")]
    command += [str(ROOT / "scripts" / "pretrain_bert.py")]
    done = subprocess.run(
        [*command, "--config", str(QUICKSTART), *flags(**TINY, output_dir=folder)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check_outputs(folder)
    assert (folder / "table.md").read_text() in done.stdout


def test_a_dry_run_prints_every_run_and_touches_nothing(toy, tmp_path, capsys):
    assert main([*toy, *flags(output_dir=tmp_path / "out", dry_run="true")]) == []
    out = capsys.readouterr().out
    assert [line.partition(":")[0] for line in out.splitlines() if not line.startswith(" ")] == [
        *("vanilla", "", "loss", "", "entropy")
    ]
    assert "loss at exit 1 keeps 4 of 8 in steps 2 to 4" in out
    assert "not known before the data is prepared" in out
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()
    # The paper's run in bf16 can be planned on a machine without a GPU.
    row = ROOT / "configs" / "bert_base" / "loss_exit_1.yaml"
    assert main(["--config", str(row), "--dry_run"]) == []


def test_a_run_on_other_processes_than_its_config_asks_for_is_refused(toy, tmp_path):
    with pytest.raises(ConfigError, match="world_size=8 is requested, but there are 1"):
        main([*toy, *flags(output_dir=tmp_path / "out", world_size=8)])


def test_training_reads_what_was_prepared_from_the_same_file(tmp_path, capsys):
    values = {**TINY, "output_dir": tmp_path / "out", "use_cpu": "true", "masks_per_row": 5}
    texts = on_a_file(tmp_path, 200)
    argv = [*texts, *flags(**values, prepare="false", runs="loss")]
    with pytest.raises(ConfigError, match=r"there is no prepared corpus; make it with"):
        main(argv)
    prepare([*texts, "--num_proc", "2"])
    assert str(tmp_path / "corpus") in capsys.readouterr().out
    (run,) = main(argv)
    assert run.final.spent.step == STEPS
    start = json.loads((tmp_path / "out" / "loss" / "log.jsonl").read_text().splitlines()[0])
    assert start["corpus"]["statistics"]["train_documents"] > 150
    assert start["corpus"]["sources"]["mine"]["files"] == str(tmp_path / "texts.jsonl")
    with pytest.raises(ConfigError, match="max_length: prepared with 64, asked for 32"):
        main([*argv, "--max_length", "32"])


def test_sigterm_saves_a_checkpoint_and_the_same_command_goes_on(toy, tmp_path, monkeypatch):
    toy = [*toy, *flags(runs="loss", save_strategy="steps", save_steps=100)]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    main([*toy, "--output_dir", str(whole)])
    ended = StopOnSignal.on_step_end

    def signalled(self, args, state, control, **kwargs):
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        ended(self, args, state, control, **kwargs)

    with monkeypatch.context() as scheduler:
        scheduler.setattr(StopOnSignal, "on_step_end", signalled)
        assert main([*toy, "--output_dir", str(parts)]) == []
    assert not (parts / "loss" / "results.json").exists()
    # A later checkpoint is half-written and is passed over.
    shutil.copytree(parts / "loss" / "checkpoint-2", parts / "loss" / "checkpoint-4")
    (parts / "loss" / "checkpoint-4" / "model.safetensors").write_bytes(b"half")
    main([*toy, "--output_dir", str(parts), "--resume_from_checkpoint", "latest"])
    last = [[line.get("eval_loss") for line in history(f / "loss")][-3:] for f in (whole, parts)]
    assert last[0] == last[1]
    final = results(parts)["runs"][0]["points"][-1]
    assert final["spent"]["candidates"] == STEPS * BATCH * 2
