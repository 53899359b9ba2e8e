"""All processes end with the same step, by the clock of the first."""

import json
from pathlib import Path

import pytest

from tests.distributed.launch import torchrun

pytestmark = pytest.mark.distributed


def test_processes_end_together(tmp_path: Path) -> None:
    torchrun("tests/distributed/budgeted_run.py", tmp_path, timeout=120)
    first, second = (json.loads((tmp_path / f"report.{rank}.json").read_text()) for rank in (0, 1))
    assert (first["step"], first["stopped"]) == (second["step"], second["stopped"]) == (5, True)
    assert (first["own seconds"], second["own seconds"]) == (5, 0)
    assert first["rates"] == second["rates"]
    assert len({groups[0][0] for groups in first["rates"]}) == 5
