"""Learned scores of two processes: all rank alike, and a resumed run is the whole one."""

from typing import Any

import pytest
import torch

from tests.distributed.launch import as_by_accelerate
from tests.distributed.learned_run import RULES, SAVED, STEPS

pytestmark = pytest.mark.distributed

CONFIGURATIONS = {
    "ddp": "ddp_8gpu",
    "zero2": "deepspeed_zero2",
    "zero3": "deepspeed_zero3",
    "fsdp2": "fsdp2_8gpu",
}


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Of each process: the whole run and the resumed one."""
    wrapper, folder = request.param, tmp_path_factory.mktemp("learned")
    if "zero" in wrapper:
        pytest.importorskip("deepspeed")
    printed = as_by_accelerate(
        *("--config_file", f"configs/accelerate/{CONFIGURATIONS[wrapper]}.yaml"),
        *("--num_processes", 2, "--mixed_precision", "no"),
        *("-m", "tests.distributed.learned_run", folder, wrapper),
    )
    files = [folder / f"found-{rank}.pt" for rank in range(2)]
    assert all(file.is_file() for file in files), printed
    return [torch.load(file, weights_only=True) for file in files]


def test_all_processes_have_the_same_predictor(runs: list[Any]) -> None:
    """Although each learns from its own samples. So they rank any sample alike."""
    (first, _), (second, _) = (run["predicted_loss"] for run in runs)
    assert first["scores"] != second["scores"]
    for name, value in first["criterion"]["network"].items():
        assert torch.equal(second["criterion"]["network"][name], value), name
    assert torch.equal(first["criterion"]["moments"], second["criterion"]["moments"])
    assert first["agreement"] == second["agreement"]  # which decides whether to sift
    assert first["agreement"]["totals"][2] > 40  # samples of both processes
    assert 0 < first["agreement"]["scoring_share"] < 1
    assert first["criterion"]["network"]["output.weight"].abs().max() > 0


def test_all_processes_know_the_losses_of_all(runs: list[Any]) -> None:
    """Each of 8 updates of two processes trains on 8 samples a process, most of them new."""
    first, second = (run["last_loss"][0]["criterion"]["losses"] for run in runs)
    torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    assert 64 < int(first.isfinite().sum()) <= 128


@pytest.mark.parametrize("criterion", RULES)
def test_a_resumed_run_is_the_whole_one_bit_for_bit(runs: list[Any], criterion: str) -> None:
    for whole, resumed in (run[criterion] for run in runs):
        done = len(whole["scores"]) * SAVED // STEPS
        assert resumed["scores"] == whole["scores"][done:]
        assert any(scores is not None for scores in resumed["scores"])
        assert resumed["agreement"] == whole["agreement"]
        assert resumed["parameters"].keys() == whole["parameters"].keys()
        for name, value in whole["parameters"].items():
            assert torch.equal(resumed["parameters"][name], value), name
        for name, value in whole["criterion"].get("network", {}).items():
            assert torch.equal(resumed["criterion"]["network"][name], value), name
