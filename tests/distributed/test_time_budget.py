"""All processes end with the same step, by the clock of the first, in every kind of wrapper."""

import json
import shutil
from pathlib import Path

import pytest

from tests.distributed.launch import accelerate

pytestmark = pytest.mark.distributed

WRAPPERS = {
    "ddp_8gpu": "DistributedDataParallel",
    "deepspeed_zero1": "DeepSpeedEngine",
    "deepspeed_zero3": "DeepSpeedEngine",
}


@pytest.mark.parametrize("config", WRAPPERS)
def test_processes_end_together(config: str, tmp_path: Path) -> None:
    """Their cycle too: its momentum has to reach the optimizer inside DeepSpeed's."""
    if "deepspeed" in config:
        pytest.importorskip("deepspeed")
        if shutil.which("g++") is None:
            pytest.skip("DeepSpeed compiles its communication for the CPU with g++: it is missing")
    done = accelerate(
        *("--config_file", f"configs/accelerate/{config}.yaml"),
        *("--num_processes", 2, "--mixed_precision", "no"),
        *("-m", "tests.distributed.budgeted_run", tmp_path),
        timeout=300,
    )
    written = [tmp_path / f"report.{rank}.json" for rank in (0, 1)]
    assert all(path.is_file() for path in written), done.stdout[-2000:] + done.stderr[-6000:]
    first, second = (json.loads(path.read_text()) for path in written)
    assert {first["wrapped in"], second["wrapped in"]} == {WRAPPERS[config]}
    assert (first["step"], first["stopped"]) == (second["step"], second["stopped"]) == (5, True)
    assert (first["own seconds"], second["own seconds"]) == (5, 0)
    assert first["rates"] == second["rates"]
    for column in (0, 1):
        assert len({groups[0][column] for groups in first["rates"]}) == 5
