"""Two processes whose audits find different things gate at the same steps."""

from typing import Any

import pytest
import torch

from sift_trainer.measuring.gate import LEAST
from tests.distributed.audited_run import KEPT, NO_DROPOUT, SAVED, STEPS, TURN
from tests.distributed.launch import together
from tests.training import Rows, bert

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


def audits(report: dict[str, Any]) -> list[dict[str, float]]:
    """What each log line says of audits."""
    lines = report["logged"]
    return [{key: line[key] for key in line if key.startswith("sift_audit/")} for line in lines]


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
        assert not {*mine} & {*others}
    assert same_weights(first, second)


def test_a_resumed_gated_run_is_the_whole_one_bit_for_bit(reports):
    """Saved while the gate is open, which five audits had to open."""
    assert OPEN[SAVED - 1 :] == [True, True, *[False] * (STEPS - TURN)]
    for report in reports:
        whole, resumed = report["gated"], report["gated resumed"]
        for field in ("candidates", "kept", "losses", "sifted"):
            assert resumed[field] == whole[field][SAVED:], field
        assert same_weights(whole, resumed)


def test_what_kept_rows_bring_evaluation_rows_is_the_mean_over_processes(reports):
    """Of the first step, by hand; the evaluation set is one batch for each process."""
    model, rows = bert(**NO_DROPOUT), Rows(400)
    evaluation = {tuple(row["input_ids"].tolist()): row for row in Rows(2 * KEPT)}

    def gradient(chosen: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        batch = {name: torch.stack([row[name] for row in chosen]) for name in chosen[0]}
        found = torch.autograd.grad(model(**batch).loss, [*model.parameters()], allow_unused=True)
        return torch.cat([each.flatten() for each in found if each is not None])

    held_out, descents = [], []
    for report in reports:
        (batch,) = report["first step"]["evaluated"]
        held_out += [tuple(ids) for ids in batch]
        towards = gradient([evaluation[tuple(ids)] for ids in batch])
        kept = gradient([rows[row] for row in report["first step"]["kept"][0]])
        descents.append(float(kept @ towards))
    assert sorted(held_out) == sorted(evaluation)
    assert descents[0] != pytest.approx(descents[1], rel=0.01)
    for report in reports:
        found = audits(report["first step"])[0]["sift_audit/descent_kept"]
        assert found == pytest.approx(sum(descents) / 2, rel=1e-4)
