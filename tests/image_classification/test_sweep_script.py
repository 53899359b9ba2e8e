"""The grid of a table through the script, interrupted and resumed."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.forked import Forked
from tests.image_classification.toy import ROOT, table, tiny
from tests.reproduction.bert.toy import flags

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}


def start(*argv: str) -> Forked:
    return Forked("scripts/sweep.py", "train_resnet", *argv, environment=ENVIRONMENT)


def states(out: str) -> dict[str, str]:
    """The lines that begin with the name of a run."""
    lines = [line.split(maxsplit=1) for line in out.splitlines() if line.startswith("learning_")]
    return {name: state.strip() for name, state in lines}


@pytest.mark.slow
def test_a_table_is_interrupted_and_resumed(tmp_path: Path) -> None:
    argv = tiny(tmp_path, table(tmp_path, 2, [1e-2]))
    argv += ["--accelerate_config", str(ROOT / "configs" / "accelerate" / "cpu.yaml")]
    cell = "learning_rate_0.01"
    names = [f"{cell}/{name}" for name in ("baseline", "early_exit_same_time")]
    argv += ["--runs", *names, *flags(max_steps=200, eval_steps=100, save_steps=100)]
    sweep = start(*argv)
    log = tmp_path / "out" / names[0] / "log.jsonl"
    for _ in range(1200):
        if log.is_file() and '"event": "log"' in log.read_text():
            break
        time.sleep(0.1)
    sweep.send_signal(signal.SIGTERM)
    code, out, error = sweep.ended(timeout=100)
    assert code == 0, error[-3000:]
    assert states(out) == {names[0]: "begun", names[1]: f"waits for {names[0]}"}

    code, out, error = start(*argv).ended(timeout=400)
    assert code == 0, error[-3000:]
    assert states(out) == dict.fromkeys(names, "finished")
    starts = [line["step"] for line in map(json.loads, log.open()) if line["event"] == "start"]
    assert starts[0] == 0
    assert 3 <= starts[1] < 200
    assert f"| {cell} " in (tmp_path / "out" / "table.md").read_text()
