"""Two processes whose audits find different things gate at the same steps."""

from typing import Any

import pytest
import torch

from sift_trainer.measuring.gate import LEAST
from tests.distributed.audited_run import KEPT, SAVED, STEPS, TURN
from tests.distributed.launch import together

pytestmark = pytest.mark.distributed

OPEN = [LEAST - 1 <= step < TURN for step in range(STEPS)]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """What each process did, by run."""
    folder = tmp_path_factory.mktemp("audited")
    together("tests/distributed/audited_run.py", folder)
    return [torch.load(folder / f"report-{rank}.pt", weights_only=True) for rank in range(2)]


def same_weights(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(value, other["model"][key]) for key, value in one["model"].items())


def test_processes_open_and_shut_the_gate_at_the_same_steps(reports):
    """By the mean of what they find: each alone would decide otherwise."""
    for report in reports:
        gated = report["gated"]
        assert (gated["world_size"], gated["wrapped_in"]) == (2, "DistributedDataParallel")
        assert gated["sifted"] == OPEN
        assert [line["sift/gate_open"] for line in gated["logged"]] == [float(on) for on in OPEN]
        for drawn, kept, on in zip(gated["candidates"], gated["kept"], OPEN, strict=True):
            assert len(drawn) == 2 * KEPT
            assert len(kept) == KEPT
            assert set(kept) < set(drawn)
            assert on or kept == drawn[:KEPT]
    first, second = (report["gated"] for report in reports)
    for mine, others in zip(first["candidates"], second["candidates"], strict=True):
        for part in (slice(KEPT), slice(KEPT, None)):  # of one pass over the data each
            assert not {*mine[part]} & {*others[part]}
    assert same_weights(first, second)


def test_a_resumed_gated_run_is_the_whole_one_bit_for_bit(reports):
    """Saved while the gate is open, which five audits had to open."""
    assert OPEN[SAVED - 1 :] == [True, True, *[False] * (STEPS - TURN)]
    for report in reports:
        whole, resumed = report["gated"], report["gated resumed"]
        for field in ("candidates", "kept", "losses", "sifted"):
            assert resumed[field] == whole[field][SAVED:], field
        assert same_weights(whole, resumed)
