"""A table's grid through the script: status, interruption, going on, and what is refused."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.forked import Forked
from tests.image_classification.toy import ROOT, table, tiny
from tests.pretraining.toy import flags

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}


def start(*argv: str) -> Forked:
    return Forked("scripts/sweep.py", "train_resnet", *argv, environment=ENVIRONMENT)


def run(*argv: str) -> tuple[int | None, str, str]:
    return start(*argv).ended(timeout=400)


def states(out: str) -> dict[str, str]:
    """The lines that begin with the name of a run."""
    lines = [line.split(maxsplit=1) for line in out.splitlines() if line.startswith("learning_")]
    return {name: state.strip() for name, state in lines}


@pytest.mark.slow
def test_a_table_is_interrupted_and_goes_on(tmp_path: Path) -> None:
    argv = tiny(tmp_path, table(tmp_path, 2, [1e-2]))
    argv += ["--accelerate_config", str(ROOT / "configs" / "accelerate" / "cpu.yaml")]
    cell = "learning_rate_0.01"
    names = [f"{cell}/{name}" for name in ("baseline", "early_exit_same_time")]
    argv += ["--runs", *names]
    waits = f"waits for {names[0]}"
    code, out, _ = run(*argv, "--status")
    assert (code, states(out)) == (0, dict(zip(names, ["not begun", waits], strict=True)))
    assert not (tmp_path / "out").exists()

    argv += flags(max_steps=200, eval_steps=100, save_steps=100)
    sweep = start(*argv)
    log = tmp_path / "out" / names[0] / "log.jsonl"
    for _ in range(1200):
        if log.is_file() and '"event": "log"' in log.read_text():
            break
        time.sleep(0.1)
    sweep.send_signal(signal.SIGTERM)
    code, out, error = sweep.ended(timeout=100)
    assert code == 0, error[-3000:]
    assert states(out) == dict(zip(names, ["begun", waits], strict=True))

    code, out, error = run(*argv)
    assert code == 0, error[-3000:]
    assert states(out) == dict.fromkeys(names, "finished")
    starts = [line["step"] for line in map(json.loads, log.open()) if line["event"] == "start"]
    assert starts[0] == 0
    assert 3 <= starts[1] < 200
    assert f"| {cell} " in (tmp_path / "out" / "table.md").read_text()
    stamps = [path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jsonl")]
    code, out, _ = run(*argv)
    assert (code, states(out)) == (0, dict.fromkeys(names, "finished"))
    assert stamps == [path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jsonl")]


@pytest.mark.slow
def test_what_cannot_be_trained_ends_the_sweep_with_its_reason(tmp_path: Path) -> None:
    argv = tiny(tmp_path, table(tmp_path, 3, [1e-2]))
    code, out, error = run(*argv, "--max_stepz", "3")
    assert (code, out) == (1, "")
    assert "unknown argument '--max_stepz'; did you mean '--max_steps'?" in error
    (tmp_path / "pictures" / "train" / "baby" / "1.jpg").write_bytes(b"no picture")
    code, out, error = run(*argv)
    assert (code, out) == (1, "")
    assert "baby/1.jpg" in error
    assert "learning_rate_0.01/baseline ended with status 1 before its first step" in error
    assert not list((tmp_path / "out").rglob("log.jsonl"))
