"""Trackers receive the sift metrics: without a network, into files that are read back.

TensorBoard's are read back in tests/test_callback.py.
"""

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.training import RecordingTrainer, Rows, arguments, bert

Written = dict[str, dict[int, float]]  # name, step, value

OFFLINE = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
}


def mlflow(folder: Path) -> Written:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (run,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    return {
        name: {each.step: each.value for each in client.get_metric_history(run.info.run_id, name)}
        for name in run.data.metrics
    }


def wandb(folder: Path) -> Written:
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.finish()  # the file is whole from then on
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    written: Written = {}
    for data in log_records(file.read_bytes()):
        items = {
            "/".join(item.nested_key) or item.key: json.loads(item.value_json)
            for item in Record.FromString(data).history.item
        }
        for name, value in items.items():
            steps = written.setdefault(name.removeprefix("train/"), {})
            steps[items["train/global_step"]] = value
    return written


def log_records(data: bytes, header: int = 7, block: int = 32768) -> Iterator[bytes]:
    """Of a log in LevelDB's format: chunks with a checksum (4 bytes), a length (2) and a kind (1:
    whole, 2, 3, 4: first, middle, last part), none of which lies across two blocks."""
    place, parts = header, b""
    while place + 7 <= len(data):
        left = block - place % block
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    places = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "WANDB_DIR": str(tmp_path),
    }
    for name, value in {**OFFLINE, **places}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.mark.parametrize("read", [mlflow, wandb], ids=lambda read: read.__name__)
def test_every_line_arrives(read: Callable[[Path], Written], offline: Path) -> None:
    tracker = read.__name__
    pytest.importorskip(tracker, reason=f"{tracker} is not installed")
    args = arguments(offline / "run", report_to=tracker, max_steps=3, sift_warmup_steps=1)
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(48))
    trainer.train()
    written = read(offline)
    lines = [log for log in trainer.state.log_history if "loss" in log]
    assert len(lines) == 3
    for line in lines:
        measured = {name: value for name, value in line.items() if name.startswith("sift/")}
        assert len(measured) >= 14
        for name, value in measured.items():
            assert written[name][line["step"]] == pytest.approx(value, rel=1e-6), name
    assert written["sift/candidates"] == {1: 8, 2: 16, 3: 24}
    assert written["sift/backprop_samples"] == {1: 4, 2: 8, 3: 12}
    assert set(written["sift/kept_score"]) == {2, 3}
