"""Weighted losses of two processes: the update of one plain loop over the kept rows of both."""

from pathlib import Path

import pytest
import torch

from tests.distributed.launch import as_by_accelerate
from tests.distributed.weighted_losses_run import DTYPES, runs_in
from tests.weighted_losses import KINDS, difference

pytestmark = pytest.mark.distributed

CONFIGURATIONS = {"ddp": "ddp_8gpu", "zero2": "deepspeed_zero2", "fsdp2": "fsdp2_8gpu"}


@pytest.mark.parametrize("wrapper", CONFIGURATIONS)
def test_the_update_is_that_of_a_loop_over_the_union(wrapper: str, tmp_path: Path) -> None:
    if wrapper == "zero2":
        pytest.importorskip("deepspeed")
    printed = as_by_accelerate(
        *("--config_file", f"configs/accelerate/{CONFIGURATIONS[wrapper]}.yaml"),
        *("--num_processes", 2, "--mixed_precision", "no"),
        *("-m", "tests.distributed.weighted_losses_run", tmp_path, wrapper),
    )
    assert (tmp_path / "found.pt").is_file(), printed
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    differences = {
        run: difference(KINDS[run[0]], found[run], run[1], 2, DTYPES[wrapper])
        for run in runs_in(wrapper)
    }
    # The loop computes padding that the run leaves out, and rounds otherwise in fp32.
    largest = 3e-6 if DTYPES[wrapper] == torch.float32 else 1e-6
    assert {run: value for run, value in differences.items() if value > largest} == {}
